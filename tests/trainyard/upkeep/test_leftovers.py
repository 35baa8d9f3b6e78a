"""What killed writers left behind is removed, and never what a live lease's holder is about to commit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from alexnet_core.layout import CheckpointKind
from tests.trainyard import rows as db_rows
from trainyard.database.connection import Database
from trainyard.database.tables import Checkpoint, Dataset
from trainyard.errors import LeaseLost
from trainyard.scheduling import leases
from trainyard.states import DatasetState
from trainyard.storage.local import LocalStorage
from trainyard.upkeep.leftovers import Leftovers, sweep_jobs


class Clock:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path)


def build(database: Database, storage: LocalStorage, clock: Clock | None = None) -> Leftovers:
    return Leftovers(database, storage, stale_s=100, clock=clock or Clock())


def make(storage: LocalStorage, key: str) -> Path:
    folder = storage.folder(key)
    (folder / "state").mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(b"x")
    return folder


def names(job_id: str, storage: LocalStorage) -> set[str]:
    return set(storage.list_names(f"checkpoints/{job_id}"))


def commit_with_files(database: Database, storage: LocalStorage, lease: leases.Lease, step: int) -> str:
    """A committed checkpoint whose folder has a trainer's name."""
    checkpoint_id = db_rows.commit(database, lease, step)
    name = f"epoch-{step:08d}-e{lease.lease_epoch}"
    key = f"checkpoints/{lease.job_id}/{name}"
    with database.writing() as session:
        session.execute(update(Checkpoint).where(Checkpoint.id == checkpoint_id).values(key=key))
    make(storage, key)
    return name


def end(database: Database, lease: leases.Lease) -> None:
    with database.writing() as session:
        leases.end_attempt(session, lease, leases.Ending(stopped="drain"), first_backoff_s=0)


def test_what_a_live_leases_holder_writes_is_never_touched(database: Database, storage: LocalStorage) -> None:
    job_id = db_rows.submit(database)
    lease = db_rows.claim(database)
    committed = commit_with_files(database, storage, lease, 10)
    under_way = {"epoch-00000020-e1", ".tmp-epoch-00000030-e1-0a1b2c3d"}
    for name in under_way:
        make(storage, f"checkpoints/{job_id}/{name}")
    build(database, storage).tick()
    assert names(job_id, storage) == {committed} | under_way


def test_what_was_not_committed_when_its_lease_ended_is_removed(database: Database, storage: LocalStorage) -> None:
    job_id = db_rows.submit(database)
    lease = db_rows.claim(database)
    committed = commit_with_files(database, storage, lease, 10)
    for name in ("epoch-00000020-e1", "recovery-00000025-e1", ".tmp-epoch-00000030-e1-0a1b2c3d"):
        make(storage, f"checkpoints/{job_id}/{name}")
    end(database, lease)
    build(database, storage).tick()
    assert names(job_id, storage) == {committed}


def test_the_next_leases_files_stay_while_the_last_ones_go(database: Database, storage: LocalStorage) -> None:
    job_id = db_rows.submit(database)
    end(database, db_rows.claim(database))
    db_rows.claim(database, "wrk_b")
    new = {"epoch-00000020-e2", ".tmp-epoch-00000030-e2-0a1b2c3d"}
    for name in {"epoch-00000020-e1", ".tmp-recovery-00000003-e1-0a1b2c3d"} | new:
        make(storage, f"checkpoints/{job_id}/{name}")
    build(database, storage).tick()
    assert names(job_id, storage) == new


def test_a_frozen_worker_that_wakes_after_the_sweep_can_commit_nothing(
    database: Database, storage: LocalStorage
) -> None:
    job_id = db_rows.submit(database)
    frozen = db_rows.claim(database)
    make(storage, f"checkpoints/{job_id}/epoch-00000010-e1")
    db_rows.write(database, job_id, lease_expires_at=1.0)
    with database.writing() as session:
        assert leases.reap(session, 2.0, first_backoff_s=0) == [job_id]
    build(database, storage).tick()
    assert names(job_id, storage) == set()
    with pytest.raises(LeaseLost):
        db_rows.commit(database, frozen, 10)


@pytest.mark.parametrize("moment", ["before the look into the database", "after it"])
def test_a_commit_that_comes_during_a_sweep_keeps_its_files(
    database: Database, storage: LocalStorage, moment: str
) -> None:
    """The holder commits and ends its attempt while the sweep is between its two looks."""
    job_id = db_rows.submit(database)
    lease = db_rows.claim(database)
    folder = make(storage, f"checkpoints/{job_id}/epoch-00000010-e1")

    def commit_and_end() -> None:
        checkpoint_id = db_rows.commit(database, lease, 10)
        key = f"checkpoints/{job_id}/{folder.name}"
        with database.writing() as session:
            session.execute(update(Checkpoint).where(Checkpoint.id == checkpoint_id).values(key=key))
        end(database, lease)

    class Interrupted(LocalStorage):
        """Has the holder commit right after the folders were listed, or right before one is removed."""

        def list_names(self, key: str) -> list[str]:
            found = super().list_names(key)
            if moment == "before the look into the database" and key == f"checkpoints/{job_id}":
                commit_and_end()
            return found

        def delete(self, key: str, part: str = "") -> bool:
            raise AssertionError(f"{key} is removed")

    sweep_jobs(database, Interrupted(storage.folder("x").parent), [job_id])
    if moment == "after it":
        commit_and_end()
        build(database, storage).tick()
    assert folder.exists()


def test_jobs_that_are_not_in_the_database_and_names_of_others_are_left_alone(
    database: Database, storage: LocalStorage
) -> None:
    """A database that was lost, or the wrong one, must not take the files with it."""
    job_id = db_rows.submit(database)
    strangers = [
        make(storage, "checkpoints/job_unknown/epoch-00000010-e1"),
        make(storage, f"checkpoints/{job_id}/mine"),
    ]
    (storage.folder("checkpoints") / "a file").write_text("")
    build(database, storage).tick()
    assert all(folder.exists() for folder in strangers)


def test_removals_that_were_cut_off_are_finished(database: Database, storage: LocalStorage) -> None:
    job_id = db_rows.submit(database)
    lease = db_rows.claim(database)
    committed = commit_with_files(database, storage, lease, 10)
    cut_off = [
        make(storage, f"checkpoints/{job_id}/.gone-epoch-00000005-e1"),
        make(storage, f"checkpoints/{job_id}/{committed}/.gone-state"),
        make(storage, "packs/.gone-ds_1"),
    ]
    build(database, storage).tick()
    assert not any(folder.exists() for folder in cut_off)
    assert names(job_id, storage) == {committed}


def test_a_half_written_pack_goes_once_it_has_not_changed_for_long(database: Database, storage: LocalStorage) -> None:
    clock = Clock()
    leftovers = build(database, storage, clock)
    db_rows.add_dataset(database, "ds_1")
    whole, dead, alive = (make(storage, f"packs/{name}") for name in ("ds_1", ".tmp-pack-dead", ".tmp-pack-alive"))
    for number in range(3):
        (alive / "weights.safetensors").write_bytes(b"x" * number)
        leftovers.tick()
        assert dead.exists()
        clock.at += 49
    leftovers.tick()
    assert (whole.exists(), dead.exists(), alive.exists()) == (True, False, True)


def test_a_pack_whose_dataset_nobody_can_use_goes_after_a_while(database: Database, storage: LocalStorage) -> None:
    clock = Clock()
    leftovers = build(database, storage, clock)
    for name in ("ds_good", "ds_rejected", "ds_deleted"):
        db_rows.add_dataset(database, name, "local")
    states = {"ds_rejected": DatasetState.REJECTED, "ds_deleted": DatasetState.DELETED}
    with database.writing() as session:
        for name, state in states.items():
            session.execute(update(Dataset).where(Dataset.id == name).values(state=state))
    folders = {name: make(storage, f"packs/{name}") for name in ("ds_good", "ds_unknown", *states)}
    leftovers.tick()
    assert all(folder.exists() for folder in folders.values()), "its dataset may be committed just now"
    clock.at += 101
    leftovers.tick()
    assert {name for name, folder in folders.items() if folder.exists()} == {"ds_good"}


def test_what_is_being_read_or_cant_be_removed_stays_and_keeps_nothing_else(
    database: Database, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = db_rows.submit(database)
    end(database, db_rows.claim(database))
    read, stuck, free = (f"epoch-0000000{number}-e1" for number in (1, 2, 3))
    for name in (read, stuck, free):
        make(storage, f"checkpoints/{job_id}/{name}")
    rename: Callable[..., Any] = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if path.name == stuck:
            raise PermissionError(1, "not yours")
        return Path(rename(path, target))

    monkeypatch.setattr(Path, "rename", fail)
    with storage.materialise(f"checkpoints/{job_id}/{read}"):
        build(database, storage).tick()
        assert names(job_id, storage) == {read, stuck}
    monkeypatch.undo()
    build(database, storage).tick()
    assert names(job_id, storage) == set()


def test_the_database_and_the_trainer_agree_on_names(database: Database, storage: LocalStorage) -> None:
    """The names that the trainer gives are those that the sweep understands, half-written ones included."""
    job_id = db_rows.submit(database)
    end(database, db_rows.claim(database))
    for kind in CheckpointKind:
        for name in (f"{kind}-{7:08d}-e1", f".tmp-{kind}-{123456789:08d}-e1-00ff00ff"):
            make(storage, f"checkpoints/{job_id}/{name}")
    sweep_jobs(database, storage, [job_id])
    assert names(job_id, storage) == set()
