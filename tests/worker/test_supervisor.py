"""One attempt after the other with a trainer that only acts, on real database."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from alexnet_core.insight.calibration import calibrate
from alexnet_core.messages import (
    Alive,
    AnyReport,
    Calibrated,
    EpochEnd,
    Failed,
    Interval,
    Phase,
    Progress,
    Ready,
    Stop,
    StopReason,
)
from alexnet_core.reliability import Calibration
from tests.trainyard import rows as db_rows
from tests.worker.acting import FINISHED, STARTED, WEIGHTS, Act, Stage, changed, checkpoint_report, stopped
from trainyard.artifacts.calibrations import read_calibration
from trainyard.database.connection import Database
from trainyard.database.tables import Checkpoint, JobEvent, JobMetric
from trainyard.jobs import jobs
from trainyard.states import MetricKind
from worker import trainer_spec as briefing_module
from worker.datasets.preparation import PreparationFailed


@pytest.fixture
def stage(database: Database, tmp_path: Path) -> Stage:
    stage = Stage(database, tmp_path)
    stage.add_ready_dataset()
    return stage


def failed(code: str) -> Failed:
    return Failed(code=code, message="it broke")


def test_a_pause_frees_the_slot_and_the_next_attempt_goes_on_from_its_checkpoint(stage: Stage) -> None:
    job_id = db_rows.submit(stage.database)
    first = stage.run(
        STARTED,
        lambda: db_rows.act(stage.database, jobs.pause, job_id),
        lambda: None,
        checkpoint_report(stage, job_id, 7, kind="recovery"),
        stopped("pause"),
    )
    assert first is not None
    assert first.commands[1:] == [Stop(reason=StopReason.PAUSE)]
    paused = db_rows.look(stage.database, job_id)
    assert (paused.state, paused.lease_owner, paused.failures) == ("paused", None, 0)
    assert db_rows.try_claim(stage.database) is None
    db_rows.act(stage.database, jobs.resume, job_id)
    second = stage.run(STARTED, FINISHED)
    assert second is not None
    assert _name(second.spec.resume_from) == "recovery-00000007-e1"
    done = db_rows.look(stage.database, job_id)
    assert (done.state, done.weights_sha256) == ("succeeded", "f" * 64)


def test_a_pausing_job_that_is_cancelled_ends_cancelled(stage: Stage) -> None:
    job_id = db_rows.submit(stage.database)
    stage.run(
        STARTED,
        lambda: db_rows.act(stage.database, jobs.pause, job_id),
        lambda: db_rows.act(stage.database, jobs.cancel, job_id),
        stopped("pause"),
    )
    assert db_rows.look(stage.database, job_id).state == "cancelled"


@pytest.mark.parametrize("way", ["crash", "killed", "hung"])
def test_a_pause_that_races_with_a_failure_ends_paused(stage: Stage, way: str) -> None:
    job_id = db_rows.submit(stage.database)
    script: list[Any] = [STARTED, lambda: db_rows.act(stage.database, jobs.pause, job_id)]
    if way == "crash":
        script += [failed("internal_error")]
    elif way == "hung":
        script += [lambda: stage.clock.sleep(10_000)] * 3
    stage.run(*script, status=-9 if way == "killed" else 1)
    job = db_rows.look(stage.database, job_id)
    assert (job.state, job.error) == ("paused", None)


def test_a_job_that_has_had_its_time_fails_with_its_last_step_saved(stage: Stage) -> None:
    job_id = db_rows.submit(stage.database, max_runtime_s=90.0)
    trainer = stage.run(
        STARTED, checkpoint_report(stage, job_id, 9, kind="recovery"), changed(FINISHED, outcome="max_runtime", step=9)
    )
    assert trainer is not None
    assert trainer.spec.max_runtime_s == 90.0
    job = db_rows.look(stage.database, job_id)
    assert (job.state, job.state_reason, job.failures) == ("failed", "max_runtime", 0)
    assert job.error is not None
    assert (job.error["code"], job.error["retryable"]) == ("max_runtime", False)
    assert "90 s" in job.error["message"]
    assert job.latest_checkpoint_id is not None


def test_the_calibration_of_the_best_checkpoint_is_kept_with_it(stage: Stage) -> None:
    job_id = db_rows.submit(stage.database)
    logits, labels = np.tile([2.0, 0.0], (40, 1)), np.array([0] * 30 + [1] * 10)
    found = calibrate(logits, labels, "validation")
    saved = checkpoint_report(stage, job_id, 40)
    report = Calibrated(job_id=job_id, lease_epoch=1, weights_sha256=saved.weights_sha256, calibration=found)
    stage.run(STARTED, saved, report, FINISHED)
    job = db_rows.look(stage.database, job_id)
    assert job.state == "succeeded"
    assert job.latest_checkpoint_id is not None
    with stage.database.reading() as session:
        kept = read_calibration(session, job.latest_checkpoint_id)
    assert kept is not None
    assert Calibration.model_validate(kept) == found


def test_a_job_begins_with_the_weights_of_another_ones_checkpoint(stage: Stage) -> None:
    old = db_rows.submit(stage.database)
    stage.run(STARTED, checkpoint_report(stage, old, 20), FINISHED)
    job_id = db_rows.submit(stage.database, init_from=db_rows.look(stage.database, old).latest_checkpoint_id)
    trainer = stage.run(changed(STARTED, started_anew=["classifier.fc8"]), failed("internal_error"))
    assert trainer is not None
    assert _name(trainer.spec.init_from) == "epoch-00000020-e1"
    assert trainer.spec.resume_from is None
    assert stage.reasons(job_id) == ["layers_started_anew"]
    again = stage.run(STARTED, checkpoint_report(stage, job_id, 20, 2), failed("internal_error"))
    assert again is not None
    assert again.spec.init_from is not None, "it has no checkpoint of its own yet"
    third = stage.run(STARTED, FINISHED)
    assert third is not None
    assert third.spec.init_from is None
    assert _name(third.spec.resume_from) == "epoch-00000020-e2"


@pytest.mark.parametrize("word", [FINISHED, stopped("drain"), failed("diverged")])
def test_a_slot_does_not_wait_for_a_trainer_that_has_had_its_last_word(stage: Stage, word: AnyReport) -> None:
    db_rows.submit(stage.database)

    def linger() -> None:
        raise AssertionError("the supervisor waits")

    trainer = stage.run(STARTED, word, linger)
    assert trainer is not None
    assert trainer.was_killed


@pytest.mark.parametrize("stop", ["pause", "cancel"])
def test_a_trainer_that_stopped_in_order_is_kept_for_the_next_attempt(stage: Stage, stop: str) -> None:
    job_id = db_rows.submit(stage.database)
    trainer = stage.run(
        STARTED, lambda: db_rows.act(stage.database, getattr(jobs, stop), job_id), lambda: None,
        stopped(stop, stays=True),
    )  # fmt: skip
    assert stage.taken_back == [trainer]
    assert trainer is not None
    assert not trainer.was_killed
    assert db_rows.look(stage.database, job_id).state == {"pause": "paused", "cancel": "cancelled"}[stop]


def test_a_trainer_is_ended_that_does_not_stay_was_late_or_lost_its_lease(stage: Stage) -> None:
    def pause(job_id: str) -> Any:
        return lambda: db_rows.act(stage.database, jobs.pause, job_id)

    def be_late() -> None:
        stage.clock.sleep(stage.settings.stop_grace_s / 4)

    def lose(job_id: str) -> Any:
        return lambda: db_rows.write(stage.database, job_id, lease_epoch=7)

    first = db_rows.submit(stage.database)
    assert stage.run(STARTED, pause(first), lambda: None, stopped("pause", stays=False))
    second = db_rows.submit(stage.database)
    late = stage.run(STARTED, pause(second), *[be_late] * 5, stopped("pause", stays=True), terminable=False)
    third = db_rows.submit(stage.database)
    lost = stage.run(STARTED, pause(third), lose(third), stopped("pause", stays=True))
    assert late is not None
    assert lost is not None
    assert stage.taken_back == []
    assert all(trainer.was_killed for trainer in stage.trainers)


def _name(path: Path | None) -> str | None:
    return path.name if path else None


def silence(stage: Stage, seconds: float) -> list[Callable[[], None]]:
    """A trainer that lives and says nothing for so long."""
    return [lambda: None] * round(seconds / stage.settings.tick_s)


def test_a_trainer_that_waits_for_its_device_says_so_and_never_counts_as_hung(stage: Stage) -> None:
    job_id = db_rows.submit(stage.database)
    seen = []

    def look() -> None:
        stage.clock.sleep(stage.settings.hang_s / 2)
        job = db_rows.look(stage.database, job_id)
        seen.append((job.state, job.state_reason))

    waiting = Phase(reason="waiting_for_device")
    turns: list[Act] = [look, Alive()]
    stage.run(waiting, *turns * 8, STARTED, FINISHED)
    assert seen == [("running", "waiting_for_device")] * 8
    assert stage.reasons(job_id, "phase") == ["waiting_for_device"]
    job = db_rows.look(stage.database, job_id)
    assert (job.state, job.failures) == ("succeeded", 0)
    other = db_rows.submit(stage.database)
    stage.run(waiting, *silence(stage, stage.settings.hang_s + 1))
    assert db_rows.look(stage.database, other).state_reason == "hung", "one that gives no heartbeat is"


def test_a_trainer_that_still_loads_torch_has_longer_than_one_that_hangs(stage: Stage) -> None:
    stage.settings.hang_s = 20
    ready = Ready()
    job_id = db_rows.submit(stage.database)
    stage.run(*silence(stage, 119), ready, STARTED, FINISHED)
    assert (db_rows.look(stage.database, job_id).state, db_rows.look(stage.database, job_id).failures) == (
        "succeeded",
        0,
    )
    other = db_rows.submit(stage.database)
    stage.run(ready, *silence(stage, 22), STARTED, FINISHED)
    job = db_rows.look(stage.database, other)
    assert (job.state, job.state_reason, job.failures) == ("queued", "hung", 1), "with torch, the short limit holds"
    stage.run(*silence(stage, 121), ready, STARTED, FINISHED)
    job = db_rows.look(stage.database, other)
    assert (job.state, job.state_reason, job.failures) == ("queued", "hung", 2), "two minutes are enough for any start"


def test_a_worker_that_was_frozen_with_its_trainer_does_not_take_it_for_hung(stage: Stage) -> None:
    job_id = db_rows.submit(stage.database)

    def freeze() -> None:
        stage.clock.sleep(3 * stage.settings.hang_s)

    stage.run(STARTED, freeze, Alive(), FINISHED)
    job = db_rows.look(stage.database, job_id)
    assert (job.state, job.failures) == ("succeeded", 0)


def test_a_trainer_that_was_frozen_with_its_worker_after_a_request_still_has_its_time_to_save(stage: Stage) -> None:
    job_id = db_rows.submit(stage.database)

    def pause() -> None:
        db_rows.act(stage.database, jobs.pause, job_id)

    def freeze() -> None:
        stage.clock.sleep(9 * stage.settings.stop_grace_s)

    saved = checkpoint_report(stage, job_id, 33, kind="recovery")
    trainer = stage.run(STARTED, pause, freeze, saved, stopped("pause"))
    assert trainer is not None
    assert trainer.commands[-1] == Stop(reason=StopReason.PAUSE)
    job = db_rows.look(stage.database, job_id)
    assert (job.state, job.committed_step) == ("paused", 33)


def test_a_worker_that_wakes_to_a_database_that_is_not_back_yet_does_not_end_its_trainer(stage: Stage) -> None:
    job_id = db_rows.submit(stage.database)

    def freeze() -> None:
        stage.clock.sleep(9 * stage.settings.self_fence_s)
        stage.take_database_away(2)

    stage.run(STARTED, freeze, Alive(), FINISHED)
    job = db_rows.look(stage.database, job_id)
    assert (job.state, job.failures) == ("succeeded", 0)


@pytest.mark.parametrize("last_words", [[], [FINISHED]])
def test_what_was_saved_while_the_database_was_away_for_too_long_is_not_lost(
    stage: Stage, last_words: list[AnyReport]
) -> None:
    job_id = db_rows.submit(stage.database)

    def go_away() -> None:
        stage.take_database_away(40)

    def wait() -> None:
        stage.clock.sleep(9)

    saved = [checkpoint_report(stage, job_id, step) for step in (20, 40)]
    stage.run(STARTED, go_away, saved[0], *[wait] * 5, saved[1], *last_words, *[wait] * 9)
    job = db_rows.look(stage.database, job_id)
    assert job.committed_step == 40
    assert all(report.path.is_dir() for report in saved)
    ends = ("succeeded", "finished") if last_words else ("queued", "lease_lost")
    assert (job.state, job.state_reason) == ends


def test_an_error_that_nobody_foresaw_ends_the_attempt_at_once_and_is_told(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = db_rows.submit(stage.database)

    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("worker.supervisor.write_reports", fail)
    trainer = stage.run(STARTED, FINISHED)
    assert trainer is not None
    assert trainer.was_killed
    job = db_rows.look(stage.database, job_id)
    assert (job.state, job.state_reason, job.lease_owner) == ("queued", "internal_error", None)


def test_a_request_ends_the_wait_for_a_trainer_that_can_not_be_started(stage: Stage) -> None:
    job_id = db_rows.submit(stage.database)
    stage.waits_for_trainer = 9
    stage.draining = True
    stage.run()
    job = db_rows.look(stage.database, job_id)
    assert (job.state, job.state_reason, job.failures) == ("queued", "drain", 0)
    assert stage.trainers == []


def test_a_worker_without_a_database_ends_its_trainer_and_the_job_goes_on_later(stage: Stage) -> None:
    job_id = db_rows.submit(stage.database)
    seen = []

    def go_away() -> None:
        stage.take_database_away(200)

    def look() -> None:
        stage.clock.sleep(stage.settings.self_fence_s / 6 - stage.settings.tick_s)
        seen.append(stage.trainers[-1].was_killed)

    report = checkpoint_report(stage, job_id, 7)
    turns: list[Act] = [look, Alive()]
    trainer = stage.run(STARTED, report, go_away, *turns * 8, FINISHED)
    assert trainer is not None
    assert trainer.was_killed
    assert seen == [False] * 6, "no sooner than after self_fence_s, and not much later"
    job = db_rows.look(stage.database, job_id)
    assert (job.state, job.state_reason, job.committed_step) == ("queued", "lease_lost", 7)
    assert job.failures == 0, "that the database was away is not the job's fault"
    second = stage.run(STARTED, FINISHED)
    assert second is not None
    assert _name(second.spec.resume_from) == "epoch-00000007-e1"
    assert db_rows.look(stage.database, job_id).state == "succeeded"


def damage(stage: Stage, job_id: str, step: int) -> None:
    (stage.storage.folder(f"checkpoints/{job_id}/epoch-{step:08d}-e1") / WEIGHTS).write_bytes(b"other")


@pytest.mark.parametrize("field", ["init_from", "resume_from"])
def test_a_damaged_checkpoint_of_another_job_to_begin_with_fails_the_job(stage: Stage, field: str) -> None:
    old = db_rows.submit(stage.database)
    stage.run(STARTED, checkpoint_report(stage, old, 20), FINISHED)
    source = db_rows.look(stage.database, old).latest_checkpoint_id
    begins_with: dict[str, Any] = {field: source}
    job_id = db_rows.submit(stage.database, **begins_with)
    damage(stage, old, 20)
    stage.run(failed("checkpoint_corrupt"), status=1)
    assert db_rows.look(stage.database, job_id).state == "queued"
    assert db_rows.statuses(stage.database) == {source: "corrupt"}
    stage.run(starts=False)
    job = db_rows.look(stage.database, job_id)
    assert (job.state, job.state_reason) == ("failed", "no_valid_checkpoint")
    assert stage.reasons(old) == ["checkpoint_corrupt"]


def test_damaged_checkpoints_are_passed_over_one_by_one_and_then_the_job_starts_anew(stage: Stage) -> None:
    job_id = db_rows.submit(stage.database)
    reports = [checkpoint_report(stage, job_id, step) for step in (20, 40)]
    stage.run(STARTED, *reports, failed("internal_error"))
    for step in (20, 40):
        damage(stage, job_id, step)
    found = []
    for _ in range(2):
        trainer = stage.run(failed("checkpoint_corrupt"), status=1)
        assert trainer is not None
        found.append(_name(trainer.spec.resume_from))
    last = stage.run(STARTED, FINISHED)
    assert last is not None
    assert found == ["epoch-00000040-e1", "epoch-00000020-e1"]
    assert (last.spec.resume_from, last.spec.best_checkpoint) == (None, None)
    assert stage.reasons(job_id) == ["checkpoint_corrupt", "checkpoint_corrupt"]
    assert db_rows.look(stage.database, job_id).state == "succeeded"


def test_a_checkpoint_with_another_manifest_than_the_committed_one_is_passed_over(stage: Stage) -> None:
    job_id = db_rows.submit(stage.database)
    stage.run(STARTED, checkpoint_report(stage, job_id, 7), checkpoint_report(stage, job_id, 14), stopped("drain"))
    root = stage.storage.folder(f"checkpoints/{job_id}")
    newer, older = root / "epoch-00000014-e1", root / "epoch-00000007-e1"
    (newer / "manifest.json").write_text("{ }")
    stage.run(starts=False)
    assert stage.reasons(job_id) == ["checkpoint_corrupt"]
    second = stage.run(STARTED, FINISHED)
    assert second is not None
    assert second.spec.resume_from == older
    assert db_rows.look(stage.database, job_id).failures == 0


@pytest.mark.parametrize("looks", [1, 2, 5, 40])
def test_a_database_that_is_away_while_an_attempt_is_prepared_is_no_failure(stage: Stage, looks: int) -> None:
    job_id = db_rows.submit(stage.database)
    stage.run(STARTED, FINISHED, database_away_for=looks)
    job = db_rows.look(stage.database, job_id)
    assert (job.state, job.failures) == ("succeeded", 0)


@pytest.mark.parametrize(("stop", "state"), [("cancel", "cancelled"), ("pause", "paused"), ("drain", "queued")])
def test_a_wish_to_stop_ends_the_preparation_of_a_dataset(
    stage: Stage, stop: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = db_rows.submit(stage.database)
    (stage.storage.folder("packs/x") / "pack.json").unlink()
    beats = []

    def prepare(*_: Any, while_waiting: Any) -> str:
        for _beat in range(100):
            beats.append(stage.clock.now)
            if len(beats) == 3:
                if stop == "drain":
                    stage.draining = True
                else:
                    db_rows.act(stage.database, getattr(jobs, stop), job_id)
            while_waiting()
        return "digest"

    monkeypatch.setattr(briefing_module, "prepare_builtin", prepare)
    stage.run(starts=False)
    job = db_rows.look(stage.database, job_id)
    assert (job.state, job.failures, len(beats)) == (state, 0, 3)


def test_a_dataset_that_can_not_be_prepared_fails_the_job_with_its_code(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = db_rows.submit(stage.database)
    (stage.storage.folder("packs/x") / "pack.json").unlink()

    def prepare(*_: Any, **__: Any) -> str:
        raise PreparationFailed("dataset_unavailable", "no such folder")

    monkeypatch.setattr(briefing_module, "prepare_builtin", prepare)
    stage.run(starts=False)
    job = db_rows.look(stage.database, job_id)
    assert (job.state, job.error and job.error["code"]) == ("failed", "dataset_unavailable")


def test_a_report_that_the_database_can_not_take_fails_its_attempt_and_no_more(stage: Stage, tmp_path: Path) -> None:
    job_id = db_rows.submit(stage.database)
    elsewhere = changed(checkpoint_report(stage, job_id, 20), path=tmp_path.parent / "elsewhere")
    trainer = stage.run(STARTED, elsewhere, FINISHED)
    assert trainer is not None
    assert trainer.was_killed
    job = db_rows.look(stage.database, job_id)
    assert (job.state, job.state_reason, job.failures) == ("queued", "internal_error", 1)
    stage.run(STARTED, failed("protocol_error"))
    job = db_rows.look(stage.database, job_id)
    assert (job.state, job.state_reason, job.failures) == ("queued", "protocol_error", 2)
    stage.run(STARTED, FINISHED)
    assert db_rows.look(stage.database, job_id).state == "succeeded"


def test_a_config_that_this_version_does_not_know_fails_the_job_before_a_trainer_is_asked(stage: Stage) -> None:
    job_id = db_rows.submit(stage.database, config=db_rows.CONFIG | {"dreams": True})
    stage.run(starts=False)
    job = db_rows.look(stage.database, job_id)
    assert (job.state, job.error and job.error["code"]) == ("failed", "config_invalid")


def test_numbers_that_json_has_no_words_for_are_written_as_null(stage: Stage) -> None:
    job_id = db_rows.submit(stage.database)
    place: dict[str, Any] = {"epoch": 0, "step": 5, "images_per_s": math.nan}
    metrics = {"train_loss": 1.0, "val_loss": math.nan, "val_top1": 0.5}
    stage.run(
        STARTED,
        Progress(**place, epochs=2, steps=40, eta_s=math.inf, fraction=0.5),
        Interval(**place, train_loss=math.inf, lr=0.1, seconds=1.5, gradient_norm=math.nan, dead_relu=0.0),
        EpochEnd(epoch=1, step=20, metrics=metrics),
        checkpoint_report(stage, job_id, 20),
        changed(FINISHED, test={"loss": math.nan, "top1": 0.25}),
    )
    job = db_rows.look(stage.database, job_id)
    assert (job.state, job.test) == ("succeeded", {"loss": None, "top1": 0.25})
    assert job.metrics == {"val_top1": 0.5, "val_loss": None}
    assert job.best is not None
    assert job.best["val_loss"] is None
    with stage.database.reading() as session:
        points = {row.kind: row.data for row in session.scalars(select(JobMetric))}
        assert session.scalars(select(Checkpoint)).one().metrics["val_loss"] is None
    assert points[MetricKind.INTERVAL] == {"train_loss": None, "lr": 0.1, "images_per_s": None, "seconds": 1.5}
    assert points[MetricKind.EPOCH]["val_loss"] is None


def test_a_checkpoint_whose_files_are_gone_is_missing_and_not_damaged(stage: Stage) -> None:
    job_id = db_rows.submit(stage.database)
    reports = [checkpoint_report(stage, job_id, step) for step in (20, 40)]
    stage.run(STARTED, *reports, failed("internal_error"))
    newest = stage.storage.folder(f"checkpoints/{job_id}/epoch-00000040-e1")
    newest.rename(newest.with_name("elsewhere"))
    stage.run(starts=False)
    assert stage.reasons(job_id) == ["checkpoint_missing"]
    assert sorted(db_rows.statuses(stage.database).values()) == ["committed", "missing"]
    last = stage.run(STARTED, FINISHED)
    assert last is not None
    assert _name(last.spec.resume_from) == "epoch-00000020-e1"


def test_a_trainer_that_can_not_read_a_whole_checkpoint_does_not_condemn_it(stage: Stage) -> None:
    job_id = db_rows.submit(stage.database)
    stage.run(STARTED, checkpoint_report(stage, job_id, 20), failed("internal_error"))
    stage.run(failed("checkpoint_corrupt"), status=1)
    assert list(db_rows.statuses(stage.database).values()) == ["committed"]
    assert stage.reasons(job_id) == []
    job = db_rows.look(stage.database, job_id)
    assert (job.state, job.state_reason, job.failures) == ("queued", "internal_error", 2)


def test_a_data_folder_that_is_another_yards_says_nothing_about_a_checkpoint(stage: Stage) -> None:
    """A worker whose folder was exchanged for an empty one waits for its own, and takes no checkpoint out of use."""
    job_id = db_rows.submit(stage.database)
    stage.run(STARTED, checkpoint_report(stage, job_id, 20), failed("internal_error"))
    stage.storage.write_mark("store_own")
    stage.storage.expect("store_own")
    root, away = stage.settings.data_dir, stage.settings.data_dir.with_name("away")
    root.rename(away)
    (root / "packs/x").mkdir(parents=True)
    (root / "packs/x/pack.json").write_text("{}")
    looks = []

    def come_back(seconds: float) -> None:
        stage.clock.sleep(seconds)
        looks.append(dict(db_rows.statuses(stage.database)))
        if len(looks) == 5:
            shutil.rmtree(root)
            away.rename(root)

    stage.supervisor._specs._sleep = come_back
    trainer = stage.run(STARTED, FINISHED)
    assert trainer is not None
    assert _name(trainer.spec.resume_from) == "epoch-00000020-e1"
    assert all(list(look.values()) == ["committed"] for look in looks)
    assert db_rows.look(stage.database, job_id).state == "succeeded"


def test_a_jobs_events_name_the_precision_and_the_reason_for_it(stage: Stage) -> None:
    job_id = db_rows.submit(stage.database)
    reason = "1.9 times as fast as fp32 on this CPU"
    stage.run(changed(STARTED, environment={"precision": "bf16"}, precision_reason=reason), FINISHED)
    with stage.database.reading() as session:
        found = list(session.scalars(select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.type == "started")))
    assert [event.data["environment"] for event in found] == [{"precision": "bf16"}]
    assert [event.data["precision_reason"] for event in found] == [reason]
