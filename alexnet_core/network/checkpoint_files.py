"""Reads the files of a checkpoint and verifies them by its manifest. Torch-free."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from alexnet_core.errors import CheckpointCorrupt, CheckpointIncompatible
from alexnet_core.layout import MANIFEST, METADATA
from alexnet_core.regular_files import open_regular, read_regular

FORMAT_VERSION = 1
PIECE_BYTES = 512 * 1024  #: that are copied at once: half a millisecond's work, and small enough for a core's own cache


def json_bytes(value: Any) -> bytes:
    """Return a value as the JSON files of a checkpoint hold it."""
    return json.dumps(value, indent=1, sort_keys=True).encode()


def verify_checkpoint(path: Path, *, state: bool) -> None:
    """Check size and sha256 of every file; with `state` also of the files that are needed to resume.

    Raises:
        CheckpointCorrupt: a file is missing or differs from the manifest.
        CheckpointIncompatible: another version of this program wrote it.
    """
    read_verified(path, state=state)


def read_metadata(path: Path) -> dict[str, Any]:
    """Read where a checkpoint comes from. Only this one of its files is verified.

    Raises:
        CheckpointCorrupt: a file is missing or damaged.
        CheckpointIncompatible: another version of this program wrote it.
    """
    entry = read_manifest(path)["files"].get(METADATA)
    if entry is None:
        raise CheckpointCorrupt(f"the {MANIFEST} of {path} names no {METADATA}")
    metadata: dict[str, Any] = json.loads(read_file(path, METADATA, entry))
    return metadata


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest of a checkpoint, without checking its files.

    Raises:
        CheckpointCorrupt: there is none, or it can't be read.
        CheckpointIncompatible: another version of this program wrote it.
    """
    try:
        data = read_regular(path, MANIFEST)
        manifest: dict[str, Any] = json.loads(data)
        version, files, state_files = manifest["format_version"], manifest["files"], manifest["state_files"]
        names = {*files, *state_files}
    except (FileNotFoundError, ValueError, KeyError, TypeError) as exc:
        raise CheckpointCorrupt(f"{path} is not a complete checkpoint: its {MANIFEST} can't be read ({exc})") from exc
    if version != FORMAT_VERSION:
        raise CheckpointIncompatible(f"checkpoint {path} has format {version!r}; this version reads {FORMAT_VERSION}")
    are_described = all({*entry} == {"sha256", "size"} for entry in [*files.values(), *state_files.values()])
    if not are_described or json_bytes(manifest) != data:
        raise CheckpointCorrupt(f"the {MANIFEST} of {path} is not as it was written")
    if any(name.startswith("/") or ".." in Path(name).parts for name in names):
        raise CheckpointCorrupt(f"the manifest of {path} lists files outside its folder")
    return manifest


def read_verified(path: Path, *, state: bool) -> dict[str, bytes]:
    """Read the files of a checkpoint by their names; with `state` also those that are needed to resume.

    Raises:
        CheckpointCorrupt: a file is missing or differs from the manifest.
        CheckpointIncompatible: another version of this program wrote it.
    """
    manifest = read_manifest(path)
    data: dict[str, bytes] = {}
    for name, entry in (manifest["files"] | (manifest["state_files"] if state else {})).items():
        data[name] = read_file(path, name, entry)
    return data


def read_file(path: Path, name: str, entry: Mapping[str, Any]) -> bytes:
    """Read one file of a checkpoint.

    Args:
        path: the checkpoint's folder.
        name: of the file.
        entry: what the manifest says of it.

    Raises:
        CheckpointCorrupt: it is missing or differs from the manifest.
    """
    try:
        data = read_regular(path, name)
    except FileNotFoundError as exc:
        raise _lacks(path, name, exc) from exc
    if len(data) != entry["size"] or hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise _differs(path, name)
    return data


def copy_file(
    path: Path, name: str, entry: Mapping[str, Any], target: BinaryIO, pause: Callable[[], object] = lambda: None
) -> None:
    """Copy one file of a checkpoint, and verify exactly the bytes that were copied. It is never in memory as a whole.

    Args:
        path: the checkpoint's folder.
        name: of the file.
        entry: what the manifest says of it.
        target: is written to.
        pause: called after each piece.

    Raises:
        CheckpointCorrupt: it is missing or differs from the manifest.
        OSError: it can't be read, or the copy can't be written.
    """
    try:
        file = open_regular(path, name)
    except FileNotFoundError as exc:
        raise _lacks(path, name, exc) from exc
    digest, size, piece = hashlib.sha256(), 0, memoryview(bytearray(PIECE_BYTES))
    with file:
        while (count := file.readinto(piece)) and size <= entry["size"]:  # type: ignore[attr-defined]  # has it
            size += count
            digest.update(piece[:count])
            target.write(piece[:count])
            pause()
    if size != entry["size"] or digest.hexdigest() != entry["sha256"]:
        raise _differs(path, name)


def _lacks(path: Path, name: str, exc: FileNotFoundError) -> CheckpointCorrupt:
    return CheckpointCorrupt(f"checkpoint {path} lacks {name}: {exc.strerror}")


def _differs(path: Path, name: str) -> CheckpointCorrupt:
    return CheckpointCorrupt(f"{name} of checkpoint {path} differs from its manifest: use an older checkpoint")
