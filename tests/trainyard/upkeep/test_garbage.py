from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from sqlalchemy import select

from tests.trainyard import yardbook as yb
from trainyard.artifacts.checkpoints import mark_corrupt
from trainyard.artifacts.storage import LocalStorage
from trainyard.database.connection import Database, now
from trainyard.database.tables import Alias, Checkpoint, JobEvent
from trainyard.upkeep.garbage import Garbage


def pruned_with_folder(books: Database, tmp_path: Path) -> tuple[str, str, Path]:
    """A checkpoint that two later ones have pruned: its id, its key and its folder."""
    yb.submit(books)
    lease = yb.claim(books)
    first, *_rest = (yb.commit(books, lease, step) for step in (10, 20, 30))
    with books.reading() as session:
        key = session.get_one(Checkpoint, first).key
    folder = tmp_path / key
    folder.mkdir(parents=True)
    return first, key, folder


def test_garbage_removes_pruned_folders_after_the_grace(books: Database, tmp_path: Path) -> None:
    first, _, folder = pruned_with_folder(books, tmp_path)
    Garbage(books, LocalStorage(tmp_path), grace_s=100).tick()
    assert folder.exists()
    Garbage(books, LocalStorage(tmp_path), grace_s=0).tick()
    assert not folder.exists()
    assert yb.statuses(books)[first] == "deleted"


def corrupt_with_files(books: Database, tmp_path: Path, found: bytes) -> tuple[str, Path]:
    """A checkpoint that was marked as damaged, and its folder: one file beside the manifest."""
    yb.submit(books)
    checkpoint_id = yb.commit(books, yb.claim(books), 10)
    manifest = b"{}"
    files = {"weights.safetensors": {"sha256": sha256(b"whole").hexdigest(), "size": 5}}
    with books.writing() as session:
        row = session.get_one(Checkpoint, checkpoint_id)
        row.files, row.manifest_sha256 = files, sha256(manifest).hexdigest()
        session.flush()
        mark_corrupt(session, checkpoint_id, "sha256 differs")
        folder = tmp_path / row.key
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_bytes(manifest)
    (folder / "weights.safetensors").write_bytes(found)
    return checkpoint_id, folder


def test_a_damaged_checkpoints_files_go_after_the_grace_and_it_stays_damaged(books: Database, tmp_path: Path) -> None:
    checkpoint_id, folder = corrupt_with_files(books, tmp_path, b"hole")
    Garbage(books, LocalStorage(tmp_path), grace_s=100).tick()
    assert folder.exists()
    for _ in range(2):
        Garbage(books, LocalStorage(tmp_path), grace_s=0).tick()
        assert not folder.exists()
        assert yb.statuses(books)[checkpoint_id] == "corrupt"


def test_a_checkpoint_that_is_whole_again_is_not_thrown_away(books: Database, tmp_path: Path) -> None:
    """A disk that was away for a moment makes every checkpoint look damaged."""
    checkpoint_id, folder = corrupt_with_files(books, tmp_path, b"whole")
    Garbage(books, LocalStorage(tmp_path), grace_s=0).tick()
    assert folder.exists()
    assert yb.statuses(books)[checkpoint_id] == "committed"


def test_a_damaged_checkpoint_whose_disk_is_away_is_looked_at_again_when_it_is_back(
    books: Database, tmp_path: Path
) -> None:
    root, away = tmp_path / "data", tmp_path / "away"
    whole, _ = corrupt_with_files(books, root, b"whole")
    damaged, folder = corrupt_with_files(books, root, b"hole")
    root.rename(away)
    for there in (False, True):  # an unmounted disk may leave its empty folder
        if there:
            root.mkdir()
        Garbage(books, LocalStorage(root), grace_s=0).tick()
        assert yb.statuses(books) == {whole: "corrupt", damaged: "corrupt"}
    root.rmdir()
    away.rename(root)
    Garbage(books, LocalStorage(root), grace_s=0).tick()
    assert yb.statuses(books) == {whole: "committed", damaged: "corrupt"}
    assert not folder.exists()


def test_training_state_whose_disk_is_away_goes_when_it_is_back(books: Database, tmp_path: Path) -> None:
    root, away = tmp_path / "data", tmp_path / "away"
    yb.submit(books)
    lease = yb.claim(books)
    best, *_rest = (yb.commit(books, lease, step, is_best=step == 10) for step in (10, 20, 30))
    with books.reading() as session:
        state = root / session.get_one(Checkpoint, best).key / "state"
    state.mkdir(parents=True)
    root.rename(away)
    Garbage(books, LocalStorage(root), grace_s=0).tick()
    away.rename(root)
    Garbage(books, LocalStorage(root), grace_s=0).tick()
    assert not state.exists()
    assert state.parent.exists()


def test_two_reconcilers_that_find_a_checkpoint_whole_at_once_say_so_once(books: Database, tmp_path: Path) -> None:
    """The second one has its turn while the first reads the files."""
    checkpoint_id, _ = corrupt_with_files(books, tmp_path, b"whole")
    second = Garbage(books, LocalStorage(tmp_path), grace_s=0)

    class Meanwhile(LocalStorage):
        @contextmanager
        def reading(self, key: str) -> Iterator[Path]:
            second.tick()
            with super().reading(key) as folder:
                yield folder

    Garbage(books, Meanwhile(tmp_path), grace_s=0).tick()
    assert yb.statuses(books)[checkpoint_id] == "committed"
    with books.reading() as session:
        whole = select(JobEvent).where(JobEvent.reason == "checkpoint_whole")
        assert len(session.scalars(whole).all()) == 1


def test_what_came_into_use_while_it_was_pruned_is_taken_back(books: Database, tmp_path: Path) -> None:
    """A user's alias, and jobs that begin with a checkpoint, as long as they have not ended."""
    yb.submit(books)
    lease = yb.claim(books)
    ids = [yb.commit(books, lease, step) for step in (10, 20, 30, 40, 50, 60)]
    assert list(yb.statuses(books).values()).count("pruned") == 4
    waiting, resuming, ended = (yb.submit(books) for _ in range(3))
    yb.write(books, waiting, init_from=ids[1])
    yb.write(books, resuming, resume_from=ids[2])
    yb.write(books, ended, init_from=ids[3], state="cancelled", finished_at=1.0)
    with books.writing() as session:
        session.add(Alias(owner="local", name="production", checkpoint_id=ids[0], updated_at=now()))
    Garbage(books, LocalStorage(tmp_path), grace_s=100).tick()
    kept = {key for key, status in yb.statuses(books).items() if status == "committed"}
    assert kept == {*ids[:3], *ids[4:]}
    with books.reading() as session:
        assert session.get_one(Checkpoint, ids[2]).state_pruned_at is None
    yb.commit(books, lease, 70)
    assert {key for key, status in yb.statuses(books).items() if status == "committed"} >= set(ids[:3])


def test_a_checkpoint_is_not_removed_under_its_reader(books: Database, tmp_path: Path) -> None:
    """The reader is another process, as an API is to the reconciler's."""
    first, key, folder = pruned_with_folder(books, tmp_path)
    program = (
        "import sys; from pathlib import Path; from trainyard.artifacts.storage import LocalStorage\n"
        "with LocalStorage(Path(sys.argv[1])).reading(sys.argv[2]): print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path), key]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"\n"
        Garbage(books, LocalStorage(tmp_path), grace_s=0).tick()
        assert folder.exists()
        assert yb.statuses(books)[first] == "pruned"
    Garbage(books, LocalStorage(tmp_path), grace_s=0).tick()
    assert not folder.exists()
