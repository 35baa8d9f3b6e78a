"""What a deletion leaves in the storage, and who removes it in the end."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import func, insert, select, text, update

from tests.trainyard.artifacts.test_retries import delete, ended_job
from trainyard.artifacts.deletion import finish_removals, remove_files, users_of
from trainyard.database.connection import Database
from trainyard.database.tables import Job, Removal
from trainyard.storage.local import LocalStorage
from trainyard.upkeep.garbage import Garbage


def leave_files(storage: LocalStorage, job_id: str) -> list[Path]:
    files = [
        storage.folder(f"checkpoints/{job_id}/epoch-00000010-e1/weights.safetensors"),
        storage.folder(f"checkpoints/{job_id}/.tmp-epoch-00000020-e1/weights.safetensors"),
        storage.folder(f"tensorboard/{job_id}/epochs/events"),
        storage.folder(f"evaluations/{job_id}.jsonl"),
        storage.folder(f"logs/jobs/{job_id}.log"),
    ]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
    return files


def words(database: Database) -> int:
    with database.reading() as session:
        return int(session.scalar(select(func.count()).select_from(Removal)) or 0)


def test_the_files_go_and_those_of_other_jobs_stay(database: Database, tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    job_id, other = ended_job(database, 10)[0], ended_job(database, 10)[0]
    kept = leave_files(storage, other)
    leave_files(storage, job_id)
    keys = delete(database, job_id)
    assert remove_files(storage, keys) == keys
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file() and path in kept) == sorted(kept)
    assert not list(tmp_path.rglob(f"*{job_id}*"))


def test_a_removal_that_a_crash_cut_off_is_finished_by_the_garbage(database: Database, tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    job_id, _ = ended_job(database, 10)
    leave_files(storage, job_id)
    delete(database, job_id)
    garbage = Garbage(database, storage, grace_s=60)
    garbage.tick()
    assert words(database) == 4, "a worker that does not know yet may still write"
    with database.writing() as session:
        session.execute(update(Removal).values(created_at=1.0))
    garbage.tick()
    assert not list(tmp_path.rglob(f"*{job_id}*"))
    assert words(database) == 0


def test_what_lies_on_a_disk_that_is_away_is_removed_when_it_is_back(database: Database, tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    storage = LocalStorage(root)
    storage.write_mark("this-yard")
    storage.expect("this-yard")
    job_id, _ = ended_job(database, 10)
    files = leave_files(storage, job_id)
    delete(database, job_id)
    root.rename(elsewhere)
    assert finish_removals(database, storage, grace_s=0) == 0
    assert words(database) == 4
    elsewhere.rename(root)
    assert finish_removals(database, storage, grace_s=0) == 4
    assert not any(file.exists() for file in files)


def test_a_checkpoint_in_a_readers_hands_stays_until_it_lets_go(database: Database, tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    job_id, _ = ended_job(database, 10)
    files = leave_files(storage, job_id)
    keys = delete(database, job_id)
    with storage.materialise(f"checkpoints/{job_id}/epoch-00000010-e1"):
        assert remove_files(storage, keys) == keys[1:]
        assert files[0].exists()
        assert finish_removals(database, storage, grace_s=0) == 3
        assert words(database) == 1
    assert finish_removals(database, storage, grace_s=0) == 1
    assert not files[0].exists()


def test_what_a_late_worker_wrote_again_is_removed_too(database: Database, tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    job_id, _ = ended_job(database, 10)
    leave_files(storage, job_id)
    remove_files(storage, delete(database, job_id))
    leave_files(storage, job_id)
    assert finish_removals(database, storage, grace_s=0) == 4
    assert not list(tmp_path.rglob(f"*{job_id}*"))


def test_who_begins_with_a_job_is_found_without_a_look_at_all_jobs(database: Database) -> None:
    """Most jobs have ended, and few begin with another one's checkpoint."""
    job_id, _ = ended_job(database, 10)
    with database.writing() as session:
        job = session.execute(select(Job.__table__)).mappings().one()
        jobs = Job.metadata.tables[Job.__tablename__]
        others = [{**job, "id": f"job_{number}", "owner": f"owner-{number % 9}"} for number in range(3000)]
        session.execute(insert(jobs), others)
        session.execute(text("ANALYZE"))
        statement = users_of(session.get_one(Job, job_id), ["ckpt_a", "ckpt_b"]).limit(1)
        compiled = statement.compile(session.get_bind(), compile_kwargs={"literal_binds": True})
        explain = "EXPLAIN QUERY PLAN" if session.get_bind().dialect.name == "sqlite" else "EXPLAIN"
        plan = [str(row[-1]) for row in session.connection().exec_driver_sql(f"{explain} {compiled}")]
    assert not [line for line in plan if "SCAN jobs" in line or "Seq Scan on jobs" in line], plan
