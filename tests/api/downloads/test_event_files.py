import io
import tarfile
from pathlib import Path

import pytest

from api.downloads.event_files import EventFileArchive
from trainyard.storage.local import LocalStorage


def test_a_file_that_grows_while_it_is_sent_is_as_long_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "job_1/steps/events-000001.out.tfevents.1"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a" * 1000)
    archive = EventFileArchive(LocalStorage(tmp_path), "job_1")
    with path.open("ab") as file:
        file.write(b"b" * 1_000_000)
    content = b"".join(archive.pieces())
    assert len(content) == archive.size_bytes
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        member = tar.extractfile("job_1/steps/events-000001.out.tfevents.1")
        assert member is not None
        assert member.read() == b"a" * 1000


def test_more_files_than_a_process_may_open(tmp_path: Path) -> None:
    for attempt in range(1500):
        path = tmp_path / f"job_1/steps/events-{attempt:06d}.out.tfevents.1"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    with tarfile.open(fileobj=io.BytesIO(b"".join(EventFileArchive(LocalStorage(tmp_path), "job_1").pieces()))) as tar:
        assert len(tar.getnames()) == 1500


def test_a_folder_that_is_not_there_has_no_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        EventFileArchive(LocalStorage(tmp_path), "job_1")
