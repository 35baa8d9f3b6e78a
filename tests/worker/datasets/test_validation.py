"""A worker validates datasets: with real children, on small folders."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import undefer

from alexnet_core.config import TrainConfig
from alexnet_core.data.pack import open_pack
from alexnet_core.layout import UPLOAD_CONTENT, upload_key
from tests.alexnet_core.data.intake.test_packing import write_classes
from tests.api.served import wait_until
from tests.trainyard import rows as db_rows
from trainyard import failpoints
from trainyard.artifacts import dataset_intake, datasets
from trainyard.artifacts.dataset_intake import NewDataset
from trainyard.database.connection import Database
from trainyard.database.tables import Dataset, Job, JobEvent
from trainyard.jobs import jobs
from trainyard.jobs.jobs import NewJob
from trainyard.scheduling.claim_message import claim_at_once
from trainyard.scheduling.leases import Lease
from trainyard.settings import Settings
from trainyard.states import DatasetState, JobState, WorkKind
from trainyard.storage.local import LocalStorage
from worker.beside.lane import Lane
from worker.claims import Claims
from worker.datasets.validation import Validator

OWNER = db_rows.OWNER
#: For what a child does: what is written of it then is written to both databases by the tests beside.
on_one_database = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


class Yard:
    """A database, a data folder, and workers that validate."""

    def __init__(self, database: Database, folder: Path, **settings: Any) -> None:
        self.database, self.pictures = database, folder / "pictures"
        self.storage = LocalStorage(folder / "data")
        given: dict[str, Any] = {"data_dir": folder / "data", "dataset_folders": str(self.pictures), "tick_s": 0.05}
        self.settings = Settings(**given | settings)
        self.draining = False
        self.validator = Validator(
            self.settings, database, self.storage, is_draining=lambda: self.draining, sleep=lambda _: None
        )

    def submit(self, source: dict[str, Any], *, parent: str | None = None, **options: Any) -> str:
        new = NewDataset("shapes", source, options, parent_id=parent)
        with self.database.writing() as session:
            return dataset_intake.submit_dataset(session, OWNER, new, max_failures=2).id

    def submit_folder(self, name: str = "shapes", **kw: Any) -> str:
        if not (self.pictures / name).exists():
            write_classes(self.pictures / name, {"round": 6, "square": 6})
        return self.submit({"path": str(self.pictures / name)}, **kw)

    def claim(self, worker: str = "wrk_a") -> tuple[Job, Lease]:
        claimed = claim_at_once(self.database, worker, 60, kind=WorkKind.VALIDATE)
        assert claimed is not None
        return claimed

    def validate(self) -> None:
        self.validator.run(*self.claim())

    def look(self, dataset_id: str) -> Dataset:
        with self.database.reading() as session:
            return session.scalars(
                select(Dataset).where(Dataset.id == dataset_id).options(undefer(Dataset.report))
            ).one()

    def work(self, dataset_id: str) -> Job:
        return db_rows.look(self.database, self.look(dataset_id).work_id)

    def code(self, dataset_id: str) -> str:
        dataset = self.look(dataset_id)
        assert dataset.state is DatasetState.REJECTED
        assert dataset.error is not None
        return str(dataset.error["code"])


@pytest.fixture
def yard(database: Database, tmp_path: Path) -> Yard:
    return Yard(database, tmp_path)


@contextlib.contextmanager
def failing(**actions: str) -> Iterator[None]:
    """Inside, children fail on purpose."""
    before = dict(failpoints._handed)
    failpoints._handed = actions
    try:
        yield
    finally:
        failpoints._handed = before


def test_a_folder_becomes_a_ready_dataset_with_pack_facts_report_and_events(yard: Yard) -> None:
    dataset_id = yard.submit_folder(flip_safe=False, image_px=16)
    yard.validate()
    dataset = yard.look(dataset_id)
    assert (dataset.state, dataset.error) == (DatasetState.READY, None)
    facts = datasets.facts_of(dataset)
    assert (facts.name, facts.class_names, facts.image_px, facts.flip_safe) == (
        "shapes",
        ("round", "square"),
        16,
        False,
    )
    pack = open_pack(yard.storage.folder(dataset.key))
    assert pack.digest == dataset.digest
    assert dataset.size_bytes == sum(file.stat().st_size for file in pack.path.iterdir())
    assert dataset.report is not None
    assert dataset.report["num_files"] == 12
    with yard.database.reading() as session:
        events = session.scalars(select(JobEvent).where(JobEvent.job_id == dataset.work_id).order_by(JobEvent.seq))
        seen = [(event.type.value, event.reason, dataset_intake.dataset_state_after(event)) for event in events]
    assert seen[:2] == [("state", "submitted", "validating"), ("state", "claimed", "validating")]
    assert seen[-1] == ("state", "finished", "ready")


@on_one_database
def test_an_uploaded_archive_becomes_a_ready_dataset(yard: Yard, tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "zipped", {"round": 6, "square": 6})
    target = yard.storage.folder(upload_key("upl_1"))
    target.mkdir(parents=True)
    archive = Path(shutil.make_archive(str(tmp_path / "shapes"), "zip", folder))
    archive.rename(target / UPLOAD_CONTENT)
    dataset_id = yard.submit({"upload": "upl_1"})
    yard.validate()
    assert yard.look(dataset_id).state is DatasetState.READY


def test_what_can_not_be_trained_on_is_rejected_with_the_report_and_leaves_no_file(yard: Yard) -> None:
    write_classes(yard.pictures / "one", {"round": 6})
    dataset_id = yard.submit_folder("one")
    yard.validate()
    dataset = yard.look(dataset_id)
    assert yard.code(dataset_id) == "dataset_invalid"
    assert dataset.report is not None
    assert (dataset.report["problem"], dataset.report["num_files"]) == ("too_few_classes", 6)
    assert list(yard.storage.folder("packs").iterdir()) == []


def test_a_missing_upload_and_a_folder_outside_are_refused(yard: Yard, tmp_path: Path) -> None:
    yard.storage.folder("uploads").mkdir(parents=True)
    gone = yard.submit({"upload": "upl_none"})
    write_classes(tmp_path / "outside", {"round": 6, "square": 6})
    outside = yard.submit({"path": str(tmp_path / "outside")})
    yard.validate()
    yard.validate()
    assert {yard.code(gone), yard.code(outside)} == {"upload_missing"}
    assert not any(str(tmp_path) in str(yard.look(each).error) for each in (gone, outside))


@on_one_database
@pytest.mark.parametrize(
    ("action", "code", "attempts"),
    [("abort", "parser_crash", 1), ("kill9", "crash_loop", 2), ("raise", "crash_loop", 2)],
)
def test_a_crash_of_the_reader_never_harms_the_worker(yard: Yard, action: str, code: str, attempts: int) -> None:
    dataset_id = yard.submit_folder()
    with failing(intake_packing_3=action):
        for _ in range(attempts):
            assert yard.look(dataset_id).state is DatasetState.VALIDATING
            db_rows.write(yard.database, yard.look(dataset_id).work_id, not_before=0.0)
            yard.validate()
    assert yard.code(dataset_id) == code
    assert yard.work(dataset_id).attempt == attempts
    assert list(yard.storage.folder("packs").iterdir()) == []


def test_a_full_disk_is_waited_for(yard: Yard) -> None:
    dataset_id = yard.submit_folder()
    with failing(intake_packing_3="enospc"):
        yard.validate()
    work = yard.work(dataset_id)
    assert (work.state, work.state_reason, work.failures) == (JobState.QUEUED, "disk_full", 0)
    db_rows.write(yard.database, work.id, not_before=0.0)
    yard.validate()
    assert yard.look(dataset_id).state is DatasetState.READY


@on_one_database
@pytest.mark.parametrize(
    ("limits", "image_px"),
    [({"max_pack_bytes": 2**20}, 256), ({"validation_cpu_s": 1}, None), ({"validation_memory_bytes": 2**28}, None)],
    ids=["file", "cpu", "memory"],
)
def test_the_limits_of_the_child_hold(
    database: Database, tmp_path: Path, limits: dict[str, Any], image_px: int | None
) -> None:
    yard = Yard(database, tmp_path, **limits)
    options: dict[str, Any] = {} if image_px is None else {"image_px": image_px}
    dataset_id = yard.submit_folder(**options)
    burn = {"validation_cpu_s": "spin", "validation_memory_bytes": "allocate"}
    actions = {f"intake_packing_{number}": burn[name] for name in limits if name in burn for number in (3,)}
    with failing(**actions):
        yard.validate()
    assert yard.code(dataset_id) == "dataset_too_costly"


def test_a_worker_killed_in_the_middle_loses_nothing(yard: Yard) -> None:
    """A process that validates is killed with -9; its child dies with it, and the next one makes the pack."""
    dataset_id = yard.submit_folder()
    if yard.database.engine.dialect.name != "sqlite":
        pytest.skip("the process opens the database by a file")
    code = (
        "import sys, pathlib; from trainyard.settings import Settings;"
        "from trainyard.database.connection import Database;"
        "from trainyard.storage.local import LocalStorage; from worker.datasets.validation import Validator;"
        "from trainyard.scheduling.claim_message import claim_at_once; from trainyard.states import WorkKind;"
        "from trainyard import failpoints; failpoints._handed = {'intake_packing_3': 'sleep:60'};"
        "url, data, pictures = sys.argv[1:]; database = Database(url);"
        "settings = Settings(data_dir=data, dataset_folders=pictures, tick_s=.05);"
        "claimed = claim_at_once(database, 'wrk_dead', 60, kind=WorkKind.VALIDATE);"
        "Validator(settings, database, LocalStorage(pathlib.Path(data)), is_draining=lambda: False).run(*claimed)"
    )
    url = yard.database.engine.url.render_as_string(hide_password=False)
    args = [url, str(yard.settings.data_dir), str(yard.pictures)]
    process = subprocess.Popen([sys.executable, "-c", code, *args])
    try:
        wait_until(lambda: (yard.work(dataset_id).progress or {}).get("phase") == "packing", timeout_s=120)
        child = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: not _lives(child))
    db_rows.write(yard.database, yard.work(dataset_id).id, state=JobState.QUEUED, lease_owner=None)
    yard.validate()
    assert yard.look(dataset_id).state is DatasetState.READY
    assert yard.work(dataset_id).attempt == 2


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def test_a_drain_gives_the_validation_back_at_once(yard: Yard) -> None:
    dataset_id = yard.submit_folder()
    with failing(intake_packing_3="sleep:60"), running(yard) as thread:
        wait_until(lambda: (yard.work(dataset_id).progress or {}).get("phase") == "packing", timeout_s=120)
        yard.draining = True
        thread.join(timeout=60)
        assert not thread.is_alive()
    work = yard.work(dataset_id)
    assert (work.state, work.state_reason, work.failures) == (JobState.QUEUED, "drain", 0)
    assert yard.look(dataset_id).state is DatasetState.VALIDATING


def test_a_dataset_that_is_deleted_while_it_is_validated_leaves_no_pack(yard: Yard) -> None:
    dataset_id = yard.submit_folder()
    key = yard.look(dataset_id).key
    with failing(intake_packing_3="sleep:60"), running(yard) as thread:
        wait_until(lambda: (yard.work(dataset_id).progress or {}).get("phase") == "packing", timeout_s=120)
        with yard.database.writing() as session:
            dataset_intake.delete_dataset(session, OWNER, dataset_id)
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert not yard.storage.folder(key).exists()
    assert [path.name for path in yard.storage.folder("packs").iterdir() if not path.name.startswith(".")] == []


@contextlib.contextmanager
def running(yard: Yard) -> Iterator[threading.Thread]:
    """Inside, a thread validates what it claimed."""
    claimed = yard.claim()
    thread = threading.Thread(target=yard.validator.run, args=claimed)
    thread.start()
    try:
        yield thread
    finally:
        yard.draining = True
        thread.join(timeout=60)


@on_one_database
def test_a_child_that_does_nothing_is_killed_and_tried_again(database: Database, tmp_path: Path) -> None:
    yard = Yard(database, tmp_path, hang_s=3)  # for longer a busy machine lets no child wait
    dataset_id = yard.submit_folder()
    with failing(intake_packing_3="sleep:60"):
        yard.validate()
    work = yard.work(dataset_id)
    assert (work.state, work.state_reason, work.failures) == (JobState.QUEUED, "validation_killed", 1)
    with failing(intake_packing_3="sleep:0.2"):
        db_rows.write(yard.database, work.id, not_before=0.0)
        yard.validate()
    assert yard.look(dataset_id).state is DatasetState.READY


@on_one_database
def test_files_that_change_between_two_tries_are_told_without_a_path(yard: Yard) -> None:
    dataset_id = yard.submit_folder()
    yard.validate()
    with yard.database.writing() as session:
        session.execute(update(Dataset).where(Dataset.id == dataset_id).values(state=DatasetState.VALIDATING))
    db_rows.write(yard.database, yard.work(dataset_id).id, state=JobState.QUEUED, finished_at=None)
    write_classes(yard.pictures / "shapes" / "round" / "more", {"x": 3})
    write_classes(yard.pictures / "shapes", {"third": 6})
    yard.validate()
    assert yard.code(dataset_id) == "dataset_changed"
    message = (yard.look(dataset_id).error or {})["message"]
    assert "submit the dataset again" in message
    assert str(yard.pictures) not in message


def test_an_attempt_begins_without_old_drafts_and_leaves_those_of_the_next_one_alone(yard: Yard) -> None:
    dataset_id = yard.submit_folder()
    target = yard.storage.folder(yard.look(dataset_id).key)
    old, of_the_next = (target.parent / f".tmp-pack-{target.name}-{pid}-x" for pid in ("1", "2"))
    old.mkdir(parents=True)
    with failing(intake_packing_3="sleep:60"), running(yard) as thread:
        wait_until(lambda: (yard.work(dataset_id).progress or {}).get("phase") == "packing", timeout_s=120)
        assert not old.exists()
        of_the_next.mkdir()
        db_rows.write(yard.database, yard.work(dataset_id).id, lease_epoch=9, lease_owner="wrk_next")
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert list(target.parent.iterdir()) == [of_the_next]


def test_a_job_that_waited_gets_a_config_that_fits_the_dataset(yard: Yard) -> None:
    dataset_id = yard.submit_folder()
    with yard.database.writing() as session:
        dataset = datasets.hold_dataset(session, OWNER, dataset_id)
        wanted = {"recipe": None, "overrides": {"epochs": 3}}
        new = NewJob(recipe="", config=wanted, seed=1, max_failures=3, waits_for_dataset=True)
        job_id = jobs.submit(session, OWNER, dataset, new).id
    yard.validate()
    job = db_rows.look(yard.database, job_id)
    assert (job.recipe, job.config["epochs"], job.not_before) == ("quick", 3, 0.0)
    TrainConfig.model_validate_json(json.dumps(job.config))


@on_one_database
def test_a_new_version_says_what_differs_from_its_parent(yard: Yard) -> None:
    parent = yard.submit_folder()
    yard.validate()
    write_classes(yard.pictures / "more", {"round": 6, "square": 9})
    child = yard.submit_folder("more", parent=parent)
    yard.validate()
    report = yard.look(child).report
    assert report is not None
    assert report["diff"] is not None


def test_the_lane_takes_what_waits_beside_the_slots_and_ends_with_the_drain(yard: Yard) -> None:
    dataset_id = yard.submit_folder()
    guard = type("Store", (), {"check": lambda self: None})()
    claims = Claims(yard.settings, yard.database, guard, "wrk_a", kind=WorkKind.VALIDATE)
    lane = Lane("validations", yard.validator, claims, tick_s=0.05, is_draining=lambda: yard.draining)
    lane.start()
    try:
        wait_until(lambda: yard.look(dataset_id).state is DatasetState.READY, timeout_s=120)
        second = yard.submit_folder()
        lane.look()
        wait_until(lambda: yard.look(second).state is DatasetState.READY, timeout_s=120)
        assert yard.look(second).same_as == dataset_id
    finally:
        yard.draining = True
        lane.join(timeout=60)
    assert not lane.is_alive()
