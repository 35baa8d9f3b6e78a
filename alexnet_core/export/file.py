"""Writes one exported file, which appears only when it is complete."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable
from pathlib import Path

from alexnet_core.durable import is_disk_full, sync_dir
from alexnet_core.errors import ConfigError, DiskFull
from alexnet_core.export import keras, onnx, torch_export
from alexnet_core.layout import TEMPORARY_PREFIX
from alexnet_core.network.checkpoint import Checkpoint

FORMATS: dict[str, Callable[[Checkpoint, Path], None]] = {
    "onnx": onnx.write_onnx,
    "keras": keras.write_keras,
    "torch_export": torch_export.write_torch_export,
}
_SUFFIXES = {"keras": keras.SUFFIX}  #: without which the format's own program does not read the file
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


def export_checkpoint(checkpoint: Checkpoint, form: str, target: Path, *, replace: bool = False) -> None:
    """Write a checkpoint's network to a file in another format.

    Args:
        checkpoint: loaded.
        form: one of FORMATS.
        target: the file; written beside its place and moved there when it is whole.
        replace: a file that is there may be replaced.

    Raises:
        ExportUnsupported: the format has no way to say what the network does.
        ConfigError: there is no such format, or its files need another name.
        FileExistsError: there is a file, and it may not be replaced.
        DiskFull: there is no room; nothing is left behind.
    """
    if form not in FORMATS:
        raise ConfigError(f"the format {form!r} does not exist: use one of {', '.join(FORMATS)}", param="format")
    suffix = _SUFFIXES.get(form, "")
    if not target.name.endswith(suffix):
        raise ConfigError(f"{target.name} must end in {suffix}: nothing else is read as such", param="out")
    if not replace and os.path.lexists(target):
        raise _is_there(target)
    temporary = target.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:8]}-{target.name}"
    try:
        FORMATS[form](checkpoint, temporary)
        _sync(temporary)
        _move(temporary, target, replace=replace)
        sync_dir(target.parent)
    except OSError as exc:
        if is_disk_full(exc):
            raise DiskFull(f"no space left while writing {target}: free some space and try again") from exc
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _is_there(target: Path) -> FileExistsError:
    return FileExistsError(errno.EEXIST, "this file exists already; --force replaces it", str(target))


def _sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _move(temporary: Path, target: Path, *, replace: bool) -> None:
    """Move the file to its place.

    A file that appeared there in the meantime is not replaced if the file system supports hard links.
    """
    if not replace:
        try:
            os.link(temporary, target)
        except FileExistsError:
            raise _is_there(target) from None
        except OSError as exc:
            if exc.errno not in _NO_LINKS:
                raise
        else:
            return
    os.replace(temporary, target)
