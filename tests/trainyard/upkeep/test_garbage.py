from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from sqlalchemy import select

from tests.trainyard import rows as db_rows
from trainyard.artifacts.checkpoints import set_aside
from trainyard.database.connection import Database, now
from trainyard.database.tables import Alias, Checkpoint, JobEvent
from trainyard.states import CheckpointStatus
from trainyard.storage.local import LocalStorage
from trainyard.upkeep.garbage import Garbage


def pruned_with_folder(database: Database, tmp_path: Path) -> tuple[str, str, Path]:
    """A checkpoint that two later ones have pruned: its id, its key and its folder."""
    db_rows.submit(database)
    lease = db_rows.claim(database)
    first, *_rest = (db_rows.commit(database, lease, step) for step in (10, 20, 30))
    with database.reading() as session:
        key = session.get_one(Checkpoint, first).key
    folder = tmp_path / key
    folder.mkdir(parents=True)
    return first, key, folder


def test_garbage_removes_pruned_folders_after_the_grace(database: Database, tmp_path: Path) -> None:
    first, _, folder = pruned_with_folder(database, tmp_path)
    Garbage(database, LocalStorage(tmp_path), grace_s=100).tick()
    assert folder.exists()
    Garbage(database, LocalStorage(tmp_path), grace_s=0).tick()
    assert not folder.exists()
    assert db_rows.statuses(database)[first] == "deleted"


def corrupt_with_files(database: Database, tmp_path: Path, found: bytes) -> tuple[str, Path]:
    """A checkpoint that was marked as damaged, and its folder: one file beside the manifest."""
    db_rows.submit(database)
    checkpoint_id = db_rows.commit(database, db_rows.claim(database), 10)
    manifest = b"{}"
    files = {"weights.safetensors": {"sha256": sha256(b"whole").hexdigest(), "size": 5}}
    with database.writing() as session:
        row = session.get_one(Checkpoint, checkpoint_id)
        row.files, row.manifest_sha256 = files, sha256(manifest).hexdigest()
        session.flush()
        set_aside(session, checkpoint_id, CheckpointStatus.CORRUPT, "sha256 differs")
        folder = tmp_path / row.key
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_bytes(manifest)
    (folder / "weights.safetensors").write_bytes(found)
    return checkpoint_id, folder


def test_a_damaged_checkpoints_files_go_after_the_grace_and_it_stays_damaged(
    database: Database, tmp_path: Path
) -> None:
    checkpoint_id, folder = corrupt_with_files(database, tmp_path, b"hole")
    Garbage(database, LocalStorage(tmp_path), grace_s=100).tick()
    assert folder.exists()
    for _ in range(2):
        Garbage(database, LocalStorage(tmp_path), grace_s=0).tick()
        assert not folder.exists()
        assert db_rows.statuses(database)[checkpoint_id] == "corrupt"


def test_a_checkpoint_that_is_whole_again_is_not_thrown_away(database: Database, tmp_path: Path) -> None:
    """A disk that was away for a moment makes every checkpoint look damaged."""
    checkpoint_id, folder = corrupt_with_files(database, tmp_path, b"whole")
    Garbage(database, LocalStorage(tmp_path), grace_s=0).tick()
    assert folder.exists()
    assert db_rows.statuses(database)[checkpoint_id] == "committed"


def test_a_damaged_checkpoint_whose_disk_is_away_is_looked_at_again_when_it_is_back(
    database: Database, tmp_path: Path
) -> None:
    root, away = tmp_path / "data", tmp_path / "away"
    whole, _ = corrupt_with_files(database, root, b"whole")
    damaged, folder = corrupt_with_files(database, root, b"hole")
    root.rename(away)
    for there in (False, True):  # an unmounted disk may leave its empty folder
        if there:
            root.mkdir()
        Garbage(database, LocalStorage(root), grace_s=0).tick()
        assert db_rows.statuses(database) == {whole: "corrupt", damaged: "corrupt"}
    root.rmdir()
    away.rename(root)
    Garbage(database, LocalStorage(root), grace_s=0).tick()
    assert db_rows.statuses(database) == {whole: "committed", damaged: "corrupt"}
    assert not folder.exists()


def test_training_state_whose_disk_is_away_goes_when_it_is_back(database: Database, tmp_path: Path) -> None:
    root, away = tmp_path / "data", tmp_path / "away"
    db_rows.submit(database)
    lease = db_rows.claim(database)
    best, *_rest = (db_rows.commit(database, lease, step, is_best=step == 10) for step in (10, 20, 30))
    with database.reading() as session:
        state = root / session.get_one(Checkpoint, best).key / "state"
    state.mkdir(parents=True)
    root.rename(away)
    Garbage(database, LocalStorage(root), grace_s=0).tick()
    away.rename(root)
    Garbage(database, LocalStorage(root), grace_s=0).tick()
    assert not state.exists()
    assert state.parent.exists()


def test_two_reconcilers_that_find_a_checkpoint_whole_at_once_say_so_once(database: Database, tmp_path: Path) -> None:
    """The second one has its turn while the first reads the files."""
    checkpoint_id, _ = corrupt_with_files(database, tmp_path, b"whole")
    second = Garbage(database, LocalStorage(tmp_path), grace_s=0)

    class Meanwhile(LocalStorage):
        @contextmanager
        def materialise(self, key: str, *, without: str = "", fresh: bool = False) -> Iterator[Path]:
            second.tick()
            with super().materialise(key, without=without, fresh=fresh) as folder:
                yield folder

    Garbage(database, Meanwhile(tmp_path), grace_s=0).tick()
    assert db_rows.statuses(database)[checkpoint_id] == "committed"
    with database.reading() as session:
        whole = select(JobEvent).where(JobEvent.reason == "checkpoint_whole")
        assert len(session.scalars(whole).all()) == 1


def test_what_came_into_use_while_it_was_pruned_is_taken_back(database: Database, tmp_path: Path) -> None:
    """A user's alias, and jobs that begin with a checkpoint, as long as they have not ended."""
    db_rows.submit(database)
    lease = db_rows.claim(database)
    ids = [db_rows.commit(database, lease, step) for step in (10, 20, 30, 40, 50, 60)]
    assert list(db_rows.statuses(database).values()).count("pruned") == 4
    waiting, resuming, ended = (db_rows.submit(database) for _ in range(3))
    db_rows.write(database, waiting, init_from=ids[1])
    db_rows.write(database, resuming, resume_from=ids[2])
    db_rows.write(database, ended, init_from=ids[3], state="cancelled", finished_at=1.0)
    with database.writing() as session:
        session.add(Alias(owner="local", name="production", checkpoint_id=ids[0], updated_at=now()))
    Garbage(database, LocalStorage(tmp_path), grace_s=100).tick()
    kept = {key for key, status in db_rows.statuses(database).items() if status == "committed"}
    assert kept == {*ids[:3], *ids[4:]}
    with database.reading() as session:
        assert session.get_one(Checkpoint, ids[2]).state_pruned_at is None
    db_rows.commit(database, lease, 70)
    assert {key for key, status in db_rows.statuses(database).items() if status == "committed"} >= set(ids[:3])


def test_a_checkpoint_is_not_removed_under_its_reader(database: Database, tmp_path: Path) -> None:
    """The reader is another process, as an API is to the reconciler's."""
    first, key, folder = pruned_with_folder(database, tmp_path)
    program = (
        "import sys; from pathlib import Path; from trainyard.storage.local import LocalStorage\n"
        "with LocalStorage(Path(sys.argv[1])).materialise(sys.argv[2]): print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path), key]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"\n"
        Garbage(database, LocalStorage(tmp_path), grace_s=0).tick()
        assert folder.exists()
        assert db_rows.statuses(database)[first] == "pruned"
    Garbage(database, LocalStorage(tmp_path), grace_s=0).tick()
    assert not folder.exists()
