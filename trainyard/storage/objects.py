"""An object store as a store: no folder is shared, and each process has local copies of what it uses.

A folder is published as objects below its key, under a name that no other publication has, with an index of them:

checkpoints/job_…/epoch-00000042-e3/<upload>/weights.safetensors …
checkpoints/job_…/epoch-00000042-e3/published.json    the upload, and size and sha256 of each file; written last

Without an index a folder does not exist, so an incomplete one is never used, and two processes that publish the same
key can't mix their files.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypedDict

from trainyard.errors import StorageMismatch, StorageUnavailable
from trainyard.storage import streams
from trainyard.storage.cache import Cache, name_of
from trainyard.storage.interface import ALWAYS, StoredFilesDamaged, StreamFacts, parts_of
from trainyard.storage.remote import RemoteFiles

log = logging.getLogger(__name__)

INDEX = "published.json"
MARK = "store-id"
CLOSE_S = 10.0
_CONFIRMED_FOR_S = 5.0
_PIECE_BYTES = 8 << 20
_DOWNLOADS = 3


class FileFacts(TypedDict):
    """What the index says about a file."""

    sha256: str
    size: int


class Index(TypedDict):
    """The files that are published under a key."""

    upload: str
    files: dict[str, FileFacts]


class ObjectStorage:
    """A bucket, or a part of one.

    Args:
        files: the objects.
        local: a folder of this machine for copies and for what is being written; processes may share it.
        cache_bytes: what the copies may take.
        follow_every_s: how often what is appended to a stream is brought away.
    """

    publishes_at_once = False

    def __init__(
        self, files: RemoteFiles, local: Path, *, cache_bytes: int, follow_every_s: float = streams.FOLLOW_EVERY_S
    ) -> None:
        self._files, self._local, self._follow_every_s = files, local.absolute(), follow_every_s
        self._cache = Cache(self._local / "copies", max_bytes=cache_bytes)
        self._lock = threading.Lock()
        self._work: tuple[Path, int] | None = None
        self._uploads: dict[str, tuple[str, dict[str, FileFacts]]] = {}
        self._known: dict[str, Index] = {}
        self._followers: list[streams.Follower] = []
        self._expected_id: str | None = None
        self._confirmed_at = -_CONFIRMED_FOR_S

    def place(self, key: str, writer: str) -> Path:
        """See `Storage`."""
        return self._own_work() / writer / Path(*parts_of(key))

    def publish(self, folder: Path, key: str, *, is_wanted: Callable[[], bool] = ALWAYS) -> None:
        """See `Storage`. If a publication fails half-way, the next call continues it."""
        self.confirm_recently()
        found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        described: dict[str, FileFacts] = {name: _describe(path) for name, path in found.items()}
        with contextlib.suppress(FileNotFoundError):
            if self._read_index(key)["files"] == described:
                return
        upload, sent = self._uploads.setdefault(key, (uuid.uuid4().hex[:12], {}))
        for name, path in found.items():
            if sent.get(name) != described[name]:  # the next call may come with other content: a folder has changed
                self._files.upload(path, f"{key}/{upload}/{name}")
                sent[name] = described[name]
        if not is_wanted():
            return
        index: Index = {"upload": upload, "files": described}
        self._files.write(f"{key}/{INDEX}", json.dumps(index, indent=1).encode())
        self._uploads.pop(key, None)
        self._known[key] = index
        for names in ([*found], [name for name in found if "/" not in name]):
            self._cache.adopt(_name_of(index, names), folder, names)

    def clear(self, key: str, writer: str) -> None:
        """See `Storage`."""
        shutil.rmtree(self.place(key, writer), ignore_errors=True)

    @contextlib.contextmanager
    def materialise(self, key: str, *, without: str = "", fresh: bool = False) -> Iterator[Path]:
        """See `Storage`. A copy is used without asking the store, because published content never changes."""
        index = None if fresh else self._known.get(key)
        if index is None:
            index = self._read_index(key)
            self._known[key] = index
        names = [name for name in index["files"] if not (without and name.startswith(f"{without}/"))]
        copy = _name_of(index, names)
        if fresh:
            self._cache.forget(copy)
        sizes = {name: index["files"][name]["size"] for name in names}

        def fetch(folder: Path) -> None:
            for name in names:
                self._download(f"{key}/{index['upload']}/{name}", index["files"][name], folder / name)

        with self._cache.holding(sizes, copy, fetch) as folder:
            yield folder

    def read_part(self, key: str, file: str, start: int, end: int) -> bytes:
        """See `Storage`."""
        index = self._known.get(key) or self._known.setdefault(key, self._read_index(key))
        if file not in index["files"]:
            raise FileNotFoundError(f"{key}/{file}")
        last = min(end, index["files"][file]["size"])
        return self._files.read(f"{key}/{index['upload']}/{file}", start, last) if start < last else b""

    def exists(self, key: str, file: str = "") -> bool:
        """See `Storage`."""
        try:
            index = self._read_index(key)
        except FileNotFoundError:
            return False
        return not file or file in index["files"]

    def list_names(self, key: str) -> list[str]:
        """See `Storage`. What a job, pack or upload has is told by its objects.

        Some stores, such as SeaweedFS, go on listing a name whose objects were removed. That matters where it would be
        removed again and again; above that, the objects are too many to list.
        """
        parts = parts_of(key)
        place = "/".join(parts)
        if len(parts) == 1:
            return self._files.list_names(place)
        paths = (file.path.removeprefix(f"{place}/") for file in self._files.list_below(place) if file.path != place)
        return sorted({path.partition("/")[0] for path in paths})

    def delete(self, key: str, part: str = "") -> bool:
        """See `Storage`. The index is removed first: then the rest no longer exists for anybody, and is removed later.

        Readers have a copy.
        """
        self.confirm_recently()
        self._known.pop(key, None)
        if part:
            return self._delete_part(key, part)
        below = [file.path for file in self._files.list_below("/".join(parts_of(key)))]
        indexes = [path for path in below if path.rpartition("/")[2] == INDEX]
        self._files.remove(indexes)
        self._files.remove(path for path in below if path not in indexes)
        return not below or not self._files.list_below(key)

    def _delete_part(self, key: str, part: str) -> bool:
        try:
            index = self._read_index(key)
        except FileNotFoundError:
            return True
        kept = {name: facts for name, facts in index["files"].items() if not name.startswith(f"{part}/")}
        if len(kept) < len(index["files"]):
            smaller: Index = {"upload": index["upload"], "files": kept}
            self._files.write(f"{key}/{INDEX}", json.dumps(smaller, indent=1).encode())
        self._files.remove(file.path for file in self._files.list_below(f"{key}/{index['upload']}/{part}"))
        return True

    @contextlib.contextmanager
    def following(self, path: Path, key: str, segment: int) -> Iterator[None]:
        """See `Storage`. After the block the rest is uploaded in the background."""
        follower = streams.Follower(self._files, path, key, segment, every_s=self._follow_every_s)
        with self._lock:
            self._followers = [each for each in self._followers if each.is_alive()] + [follower]
            follower.start()
        try:
            yield
        finally:
            follower.end()

    def list_streams(self, key: str) -> list[StreamFacts]:
        """See `Storage`."""
        return streams.list_streams(self._files, key)

    def read_stream(self, key: str, start: int, end: int) -> bytes:
        """See `Storage`."""
        return streams.read_stream(self._files, key, start, end)

    def list_unfinished(self, key: str) -> Iterator[tuple[str, object]]:
        """See `Storage`. These are uploads that the index beside them does not list."""
        for name in self.list_names(key):
            try:
                current = self._read_index(f"{key}/{name}")["upload"]
            except FileNotFoundError:
                current = ""
            for upload in self.list_names(f"{key}/{name}"):
                if upload not in {current, INDEX}:
                    place = f"{key}/{name}/{upload}"
                    yield place, [(file.path, file.size_bytes) for file in self._files.list_below(place)]

    def read_mark(self) -> str | None:
        """See `Storage`."""
        try:
            return self._files.read(MARK).decode("ascii", "replace").strip() or None
        except FileNotFoundError:
            return None

    def write_mark(self, store_id: str) -> None:
        """See `Storage`."""
        try:
            self._files.write_new(MARK, f"{store_id}\n".encode())
        except FileNotFoundError as exc:
            raise StorageUnavailable(f"there is no bucket for the store {self._files}: make it first") from exc

    def expect(self, store_id: str) -> None:
        """See `Storage`."""
        self._expected_id = store_id

    def confirm(self) -> None:
        """See `Storage`."""
        found = self.read_mark()
        if self._expected_id is not None and found != self._expected_id:
            what = f"has no object {MARK}" if found is None else f"is another yard's: its {MARK} says {found}"
            raise StorageMismatch(f"the store {self._files} {what}; the database says {self._expected_id}")
        self._confirmed_at = time.monotonic()

    def confirm_recently(self) -> None:
        """Return if the store was the yard's own a moment ago; see `confirm`."""
        if self._expected_id is not None and time.monotonic() - self._confirmed_at > _CONFIRMED_FOR_S:
            self.confirm()

    def close(self) -> None:
        """See `Storage`."""
        with self._lock:
            followers, self._followers = self._followers, []
        for follower in followers:
            follower.give_up(CLOSE_S)
        for follower in followers:
            follower.join(timeout=CLOSE_S + 1)
        with self._lock:
            if self._work is not None:
                folder, held = self._work
                shutil.rmtree(folder, ignore_errors=True)
                os.close(held)
                self._work = None

    def _own_work(self) -> Path:
        """Return this process's folder for what is being written, and remove those of processes that have ended."""
        with self._lock:
            if self._work is None:
                root = self._local / "work"
                folder = root / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
                folder.mkdir(parents=True)
                held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
                fcntl.flock(held, fcntl.LOCK_EX)
                self._work = (folder, held)
                for other in root.iterdir():
                    if other != folder:
                        _remove_if_left(other)
            return self._work[0]

    def _read_index(self, key: str) -> Index:
        """Read which files are published under a key.

        Raises:
            FileNotFoundError: nothing is, in a store that is the yard's own.
            StoredFilesDamaged: the index can't be understood.
        """
        try:
            data = self._files.read(f"{'/'.join(parts_of(key))}/{INDEX}")
        except FileNotFoundError:
            self.confirm()
            raise
        try:
            index = json.loads(data)
            return {
                "upload": str(index["upload"]),
                "files": {
                    str(name): {"sha256": str(facts["sha256"]), "size": int(facts["size"])}
                    for name, facts in index["files"].items()
                },
            }
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise StoredFilesDamaged(f"{key}/{INDEX} can't be understood: {exc}") from exc

    def _download(self, path: str, facts: FileFacts, target: Path) -> None:
        """Download and compare a file. Wrong bytes count as damage only if the store gives the same ones each time."""
        seen = set()
        target.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(_DOWNLOADS):
            found = self._download_once(path, facts["size"], target)
            if found == facts["sha256"]:
                return
            seen.add(found)
            log.warning("a download is not what was published", extra={"key": path, "sha256": found})
        if len(seen) > 1 or None in seen:
            raise StorageUnavailable(f"the store {self._files} does not return all of {path}")
        raise StoredFilesDamaged(f"{path} does not match its sha256")

    def _download_once(self, path: str, size: int, target: Path) -> str | None:
        """Return the sha256 of what arrived. None: it was too short, as after a connection that broke."""
        digest, at = hashlib.sha256(), 0
        with target.open("wb") as file:
            while at < size:
                try:
                    piece = self._files.read(path, at, min(size, at + _PIECE_BYTES))
                except FileNotFoundError:
                    self.confirm()
                    raise
                if not piece or len(piece) > size - at:
                    return None
                file.write(piece)
                digest.update(piece)
                at += len(piece)
        return digest.hexdigest()


def _name_of(index: Index, names: list[str]) -> str:
    return name_of({name: index["files"][name]["sha256"] for name in names})


def _describe(path: Path) -> FileFacts:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
            size += len(piece)
    return {"sha256": digest.hexdigest(), "size": size}


def _remove_if_left(folder: Path) -> None:
    """Remove the folder of a process that has ended."""
    try:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        pass
    finally:
        os.close(held)
