"""An object store as a store: nothing half is believed, nothing is lost while it is away, copies stay bounded."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alexnet_core.evaluation.job_evaluation import MAX_BYTES, Record, append_record, parse_last_record, was_cut_off
from alexnet_core.layout import evaluation_key
from tests.alexnet_core.evaluation.test_job_evaluation import evaluation
from tests.object_store import FaultyFilesystem
from trainyard.artifacts.deletion import remove_files
from trainyard.errors import StorageMismatch, StorageUnavailable
from trainyard.jobs.job_log import read_tail
from trainyard.storage.interface import StoredFilesDamaged
from trainyard.storage.objects import INDEX, ObjectStorage
from trainyard.storage.remote import RemoteFiles

KEY = "checkpoints/job_1/epoch-00000001-e1"
CONTENT = {"weights.safetensors": b"w" * 3_000_000, "manifest.json": b"{}", "state/state.json": b"s"}


@pytest.fixture
def open_one(files: RemoteFiles, tmp_path: Path) -> Iterator[Callable[..., ObjectStorage]]:
    """Opens the store from another machine each time: with a local folder of its own."""
    opened: list[ObjectStorage] = []

    def open_one(cache_bytes: int = 10**9) -> ObjectStorage:
        local = tmp_path / f"machine-{len(opened)}"
        opened.append(ObjectStorage(files, local, cache_bytes=cache_bytes, follow_every_s=0.05))
        return opened[-1]

    yield open_one
    for storage in opened:
        storage.close()


def make(storage: ObjectStorage, key: str = KEY, content: dict[str, bytes] = CONTENT) -> Path:
    folder = storage.place(key, "writer")
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def content_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def refuse(_: Callable[[], Any]) -> Any:
    raise ConnectionRefusedError(111, "refused")


def test_what_one_machine_publishes_another_one_has(open_one: Callable[..., ObjectStorage]) -> None:
    writer, reader = open_one(), open_one()
    folder = make(writer)
    assert not reader.exists(KEY)
    writer.publish(folder, KEY)
    writer.clear(KEY, "writer")
    assert not folder.exists()
    assert reader.exists(KEY, "manifest.json")
    assert not reader.exists(KEY, "pack.json")
    for storage in (writer, reader):
        with storage.materialise(KEY) as copy:
            assert content_of(copy) == CONTENT
        with storage.materialise(KEY, without="state") as copy:
            assert "weights.safetensors" in content_of(copy)


def test_a_copy_is_fetched_once_and_serves_while_the_store_is_away(
    open_one: Callable[..., ObjectStorage], filesystem: FaultyFilesystem
) -> None:
    writer, reader = open_one(), open_one()
    writer.publish(make(writer), KEY)
    for _ in range(2):
        with reader.materialise(KEY):
            pass
    filesystem.calls.clear()
    filesystem.faults = [refuse] * 50
    for storage in (reader, writer):  # whoever published it has its files already
        with storage.materialise(KEY) as copy:
            assert content_of(copy) == CONTENT
    assert filesystem.calls == []


def test_a_part_of_a_file_is_read_without_the_rest(
    open_one: Callable[..., ObjectStorage], filesystem: FaultyFilesystem
) -> None:
    writer = open_one()
    content = CONTENT | {"weights.safetensors": bytes(range(256)) * 4000}
    writer.publish(make(writer, content=content), KEY)
    reader = open_one()
    filesystem.calls.clear()
    assert reader.read_part(KEY, "weights.safetensors", 1000, 1010) == content["weights.safetensors"][1000:1010]
    assert reader.read_part(KEY, "manifest.json", 1, 500) == b"}"
    assert reader.read_part(KEY, "manifest.json", 2, 500) == b""
    assert len(filesystem.calls) == 3, "the index, and each part"
    with pytest.raises(FileNotFoundError):
        reader.read_part(KEY, "nothing", 0, 10)
    with pytest.raises(FileNotFoundError):
        reader.read_part("checkpoints/job_1/none", "manifest.json", 0, 10)


def test_a_publication_that_goes_on_with_other_content_sends_it(
    open_one: Callable[..., ObjectStorage], filesystem: FaultyFilesystem
) -> None:
    """A dataset's folder may have changed before its validation is tried again."""
    writer, reader = open_one(), open_one()

    def refuse_the_index(name: str, _: tuple[Any, ...]) -> None:
        if name == "pipe_file":
            raise ConnectionResetError(104, "reset")

    filesystem.before = refuse_the_index
    with pytest.raises(StorageUnavailable):
        writer.publish(make(writer), KEY)
    filesystem.before = lambda *_: None
    changed = CONTENT | {"state/state.json": b"other"}
    writer._files._failed_at = -1000.0  # the store is back
    writer.publish(make(writer, content=changed), KEY)
    with reader.materialise(KEY) as copy:
        assert content_of(copy) == changed


def test_a_publication_that_is_no_longer_wanted_becomes_visible_to_nobody(
    open_one: Callable[..., ObjectStorage],
) -> None:
    """A worker that lost its lease while it published: another one may have published other content meanwhile."""
    late, other, reader = open_one(), open_one(), open_one()
    changed = CONTENT | {"state/state.json": b"other"}
    other.publish(make(other, content=changed), KEY)
    late.publish(make(late), KEY, is_wanted=lambda: False)
    with reader.materialise(KEY) as copy:
        assert content_of(copy) == changed


def test_a_publication_that_is_cut_off_anywhere_is_not_there_and_goes_on_later(
    open_one: Callable[..., ObjectStorage], filesystem: FaultyFilesystem
) -> None:
    writer, reader = open_one(), open_one()
    folder = make(writer)
    cuts = 0
    for good in range(20):
        written: list[str] = []

        def fail_from(name: str, args: tuple[Any, ...], good: int = good, written: list[str] = written) -> None:
            if name in {"put_file", "pipe_file"}:
                written.append(name)
                if len(written) > good:
                    raise ConnectionResetError(104, "reset")

        filesystem.before = fail_from
        key = f"{KEY}{good}"
        try:
            writer.publish(folder, key)
        except StorageUnavailable:
            cuts += 1
        else:
            break
        finally:
            filesystem.before = lambda name, args: None
        assert not reader.exists(key)
        with pytest.raises(FileNotFoundError), reader.materialise(key):
            pass
        filesystem.calls.clear()
        writer.publish(folder, key)
        assert filesystem.calls.count("put_file") == len(CONTENT) - good, "what is there already is not sent again"
        with reader.materialise(key) as copy:
            assert content_of(copy) == CONTENT
    assert cuts == len(CONTENT) + 1


def test_two_that_publish_the_same_key_do_not_mix(open_one: Callable[..., ObjectStorage]) -> None:
    first, second, reader = open_one(), open_one(), open_one()
    other = {"weights.safetensors": b"o" * 10, "manifest.json": b"other"}
    threads = [
        threading.Thread(target=storage.publish, args=(make(storage, content=content), KEY))
        for storage, content in ((first, CONTENT), (second, other))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with reader.materialise(KEY) as copy:
        assert content_of(copy) in (CONTENT, other)
    (left,) = reader.list_unfinished("checkpoints/job_1")
    reader.delete(left[0])
    assert list(reader.list_unfinished("checkpoints/job_1")) == []
    with open_one().materialise(KEY) as copy:
        assert content_of(copy) in (CONTENT, other)


def test_a_truncated_read_is_read_again(open_one: Callable[..., ObjectStorage], filesystem: FaultyFilesystem) -> None:
    writer, reader = open_one(), open_one()
    writer.publish(make(writer), KEY)
    filesystem.faults = [lambda really: really(), lambda really: really()[:1000], lambda _: b""]
    with reader.materialise(KEY) as copy:
        assert content_of(copy) == CONTENT


def test_a_store_that_never_gives_all_is_unavailable_and_nothing_is_damaged(
    open_one: Callable[..., ObjectStorage], filesystem: FaultyFilesystem
) -> None:
    writer, reader = open_one(), open_one()
    writer.publish(make(writer), KEY)
    filesystem.faults = [lambda really: really(), *[lambda _: b""] * 9]
    with pytest.raises(StorageUnavailable, match="does not return all"), reader.materialise(KEY):
        pass


def test_other_bytes_in_the_store_are_damage(open_one: Callable[..., ObjectStorage], files: RemoteFiles) -> None:
    writer, reader = open_one(), open_one()
    writer.publish(make(writer), KEY)
    (weights,) = [file.path for file in files.list_below(KEY) if file.path.endswith("weights.safetensors")]
    files.write(weights, b"x" * 3_000_000)
    with pytest.raises(StoredFilesDamaged, match="weights"), reader.materialise(KEY):
        pass
    with writer.materialise(KEY):
        pass  # a good copy is a good copy
    with pytest.raises(StoredFilesDamaged), writer.materialise(KEY, fresh=True):
        pass


def test_a_missing_object_is_missing_and_a_missing_bucket_is_not(
    open_one: Callable[..., ObjectStorage], files: RemoteFiles, filesystem: FaultyFilesystem
) -> None:
    storage = open_one()
    storage.write_mark("store_1")
    storage.expect("store_1")
    storage.publish(make(storage), KEY)
    files.remove(file.path for file in files.list_below(KEY) if file.path.endswith("weights.safetensors"))
    with pytest.raises(FileNotFoundError), open_one().materialise(KEY):
        pass

    def vanish(_: Callable[[], Any]) -> Any:
        raise FileNotFoundError("no such bucket")

    filesystem.faults = [vanish] * 2
    with pytest.raises(StorageMismatch):
        storage.exists("checkpoints/job_1/epoch-00000002-e1")


def test_a_folder_and_a_part_of_it_are_removed(open_one: Callable[..., ObjectStorage], files: RemoteFiles) -> None:
    storage, reader = open_one(), open_one()
    storage.publish(make(storage), KEY)
    assert storage.delete(KEY, "state")
    with reader.materialise(KEY) as copy:
        assert sorted(content_of(copy)) == ["manifest.json", "weights.safetensors"]
    assert not [file for file in files.list_below(KEY) if "state/" in file.path]
    assert storage.list_names("checkpoints/job_1") == [KEY.rpartition("/")[2]]
    assert storage.delete(KEY)
    assert not open_one().exists(KEY)
    assert files.list_below("checkpoints") == []
    assert storage.delete(KEY), "removing it again is harmless"


def test_a_removal_that_is_cut_off_leaves_nothing_to_believe(
    open_one: Callable[..., ObjectStorage], files: RemoteFiles, filesystem: FaultyFilesystem
) -> None:
    storage = open_one()
    storage.publish(make(storage), KEY)

    def fail(name: str, args: tuple[Any, ...]) -> None:
        if name == "rm" and INDEX not in args[0][0]:
            raise ConnectionResetError(104, "reset")

    filesystem.before = fail
    with pytest.raises(StorageUnavailable):
        storage.delete(KEY)
    filesystem.before = lambda name, args: None
    assert not open_one().exists(KEY)
    assert storage.delete(KEY)
    assert files.list_below(KEY) == []


def test_a_log_reaches_readers_while_it_grows_and_segments_come_in_their_order(
    open_one: Callable[..., ObjectStorage],
) -> None:
    first, second, reader = open_one(), open_one(), open_one()
    key = "logs/jobs/job_1.log"
    expected = b""
    for segment, storage in enumerate((first, second), 3):
        path = storage.place(key, f"job_1-e{segment}")
        path.parent.mkdir(parents=True)
        with storage.following(path, key, segment):
            for _ in range(3):
                lines = b"".join(b"%d line %d\n" % (segment, number) for number in range(30_000))
                with path.open("ab") as file:
                    file.write(lines)
                expected += lines
                length = len(expected)
                wait_until(lambda: size_of(reader, key) == length)  # noqa: B023
                assert reader.read_stream(key, 0, 10**9) == expected
        wait_until(lambda: not path.exists())  # noqa: B023
    assert reader.read_stream(key, 1_000_000, 1_200_000) == expected[1_000_000:1_200_000]
    assert [stream.key for stream in reader.list_streams("logs")] == [key]


def test_an_evaluation_of_a_second_attempt_is_read_behind_what_the_first_one_left(
    open_one: Callable[..., ObjectStorage],
) -> None:
    reader, key = open_one(), evaluation_key("job_1")
    left = [Record(state="begun", lease_epoch=1), Record(state="begun", lease_epoch=2)]
    done = Record(state="done", lease_epoch=2, evaluation=evaluation(1000))
    for attempt, records in enumerate((left[:1], [left[1], done]), 1):
        storage = open_one()
        path = storage.place(key, f"job_1-e{attempt}")
        with storage.following(path, key, attempt):
            for record in records:
                append_record(path, record)
        wait_until(lambda: not path.exists())  # noqa: B023
        tail = read_tail(reader, key, lines=1, max_bytes=MAX_BYTES)
        assert parse_last_record(tail) == records[-1]
        assert was_cut_off(tail) is (attempt == 1)
    assert reader.delete(key)
    assert read_tail(reader, key, lines=1) == b""


def test_what_is_appended_while_the_store_is_away_comes_later(
    open_one: Callable[..., ObjectStorage], filesystem: FaultyFilesystem
) -> None:
    storage = open_one()
    key = "tensorboard/job_1"
    folder = storage.place(key, "job_1-e1")
    (folder / "steps").mkdir(parents=True)
    filesystem.faults = [refuse] * 7
    with storage.following(folder, key, 1):
        (folder / "steps/events.out.tfevents.1").write_bytes(b"points")
    wait_until(lambda: filesystem.faults == [])
    wait_until(lambda: [stream.size_bytes for stream in storage.list_streams(key)] == [6])
    assert [stream.key for stream in storage.list_streams(key)] == [f"{key}/steps/events.out.tfevents.1"]


def test_the_mark_is_written_once_and_another_store_is_refused(open_one: Callable[..., ObjectStorage]) -> None:
    storage = open_one()
    assert storage.read_mark() is None
    storage.write_mark("store_1")
    storage.write_mark("store_2")
    assert storage.read_mark() == "store_1"
    storage.expect("store_1")
    storage.confirm()
    storage.expect("store_3")
    with pytest.raises(StorageMismatch, match="store_1"):
        storage.confirm()
    with pytest.raises(StorageMismatch):
        storage.exists(KEY)


def test_what_a_killed_process_was_writing_is_removed(files: RemoteFiles, tmp_path: Path) -> None:
    left = tmp_path / "work/1-dead/job/checkpoints"
    left.mkdir(parents=True)
    living = ObjectStorage(files, tmp_path, cache_bytes=1)
    own = living.place(KEY, "writer")
    own.mkdir(parents=True)
    other = ObjectStorage(files, tmp_path, cache_bytes=1)
    other.place(KEY, "writer")
    assert not left.exists()
    assert own.is_dir()
    living.close()
    other.close()


def size_of(storage: ObjectStorage, key: str) -> int:
    return sum(stream.size_bytes for stream in storage.list_streams(key))


def wait_until(look: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if look():
                return
        except StorageUnavailable:
            pass
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_a_name_whose_objects_were_removed_is_not_listed_below_a_job(
    open_one: Callable[..., ObjectStorage],
    filesystem: FaultyFilesystem,
    files: RemoteFiles,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SeaweedFS goes on listing its folder. Removing it again and again would never end."""
    storage, job_key = open_one(), "checkpoints/job_1"
    other = f"{job_key}/epoch-00000002-e1"
    for key in (KEY, other):
        storage.publish(make(storage, key), key)
    really = filesystem.ls

    def list_removed_too(path: str, *, detail: bool) -> list[str]:
        names = [f"{files}/{key}" for key in (KEY, other)]
        return names if path == f"{files}/{job_key}" else really(path, detail=detail)

    monkeypatch.setattr(filesystem, "ls", list_removed_too, raising=False)
    assert storage.delete(KEY)
    assert storage.list_names(job_key) == ["epoch-00000002-e1"]
    assert INDEX in storage.list_names(other)
    assert storage.list_names("checkpoints") == ["job_1"]
    assert remove_files(storage, [job_key]) == [job_key]
    assert storage.list_names(job_key) == []
