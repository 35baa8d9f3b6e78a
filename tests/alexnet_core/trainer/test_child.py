"""A trainer child that serves one attempt after the other, and one that waits for its slot's lock."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from alexnet_core.data import pack_digest
from alexnet_core.data.pack import Pack
from alexnet_core.evaluation.job_evaluation import parse_last_record
from alexnet_core.messages import (
    PARENT_IS_GONE,
    Alive,
    AnyReport,
    CheckpointSaved,
    EpochEnd,
    Failed,
    Finished,
    Outcome,
    Phase,
    Ready,
    Spec,
    Stop,
    StopReason,
    parse_report,
)
from alexnet_core.trainer import child as trainer
from alexnet_core.trainer.child import Commands, ReportingHooks, Reports
from tests.alexnet_core.child import Child, describe_attempt
from tests.alexnet_core.toy import write_toy_pack


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return write_toy_pack(tmp_path_factory.mktemp("packs") / "toy")


def run(child: Child, spec: Spec, *, stop_at: int | None = None) -> list[Any]:
    """The reports of one attempt of a child, stopped in an epoch."""
    assert child.read() == Ready()
    child.send(spec)
    reports: list[AnyReport] = []
    for report in child.read_attempt():
        reports.append(report)
        if isinstance(report, EpochEnd) and report.epoch == stop_at:
            child.send(Stop(reason=StopReason.PAUSE))
    return reports


def take(path: Path) -> int:
    """The lock, which must be free."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fileno = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(fileno, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fileno


def test_a_child_that_was_stopped_serves_other_attempts_to_the_same_bits(pack: Pack, tmp_path: Path) -> None:
    other: dict[str, Any] = {"job_id": "job_2", "seed": 9, "epochs": 4}
    with Child() as one, Child() as another:
        whole = run(one, describe_attempt(pack, tmp_path / "whole", epochs=12))[-1]
        alone = run(another, describe_attempt(pack, tmp_path / "alone", **other))[-1]
        assert one.end() == another.end() == 0, "one that has done its job ends"
    with Child() as child:
        parts = tmp_path / "parts"
        first = run(child, describe_attempt(pack, parts, epochs=12), stop_at=3)
        assert (first[-1].outcome, first[-1].reason, first[-1].stays) == ("stopped", "pause", True)
        os.close(take(parts / "slot.lock"))
        assert os.readlink(f"/proc/{child.process.pid}/fd/2") == os.readlink("/proc/self/fd/2"), "the log is let go"
        between = run(child, describe_attempt(pack, tmp_path / "between", **other), stop_at=2)
        assert between[-1].outcome == "stopped"
        saved = [report for report in first if isinstance(report, CheckpointSaved)][-1]
        last = run(child, describe_attempt(pack, parts, epochs=12, resume_from=saved.path, lease_epoch=2))
        assert {report.job_id for report in last} == {"job_1"}
        assert last[0].bit_exact is True
        assert last[-1].weights_sha256 == whole.weights_sha256
        assert child.end() == 0
    with Child() as child:
        assert run(child, describe_attempt(pack, tmp_path / "again", epochs=12), stop_at=1)[-1].stays
        assert run(child, describe_attempt(pack, tmp_path / "b", **other))[-1].weights_sha256 == alone.weights_sha256


def test_a_child_waits_for_its_lock_says_so_and_then_trains(pack: Pack, tmp_path: Path) -> None:
    held = take(tmp_path / "slot.lock")
    with Child() as child:
        assert child.read() == Ready()
        child.send(describe_attempt(pack, tmp_path, epochs=1))
        assert child.read() == Phase(reason="waiting_for_device", job_id="job_1", lease_epoch=1)
        alive = Alive(job_id="job_1", lease_epoch=1)
        assert [child.read() for _ in range(3)] == [alive] * 3, "heartbeats, for as long as it waits"
        os.close(held)
        reports: list[Any] = list(child.read_attempt())
        assert "started" in {report.type for report in reports}
        assert reports[-1].outcome == "succeeded"
        assert child.end() == 0


def test_a_child_that_waits_for_its_lock_can_be_stopped(pack: Pack, tmp_path: Path) -> None:
    held = take(tmp_path / "slot.lock")
    with Child() as child:
        assert child.read() == Ready()
        child.send(describe_attempt(pack, tmp_path))
        child.send(Stop(reason=StopReason.CANCEL))
        *_, last = child.read_attempt()
        assert isinstance(last, Finished)
        assert (last.outcome, last.reason, last.stays) == ("stopped", "cancel", False)
        assert child.end() == 0, "a thread of it waits for the lock: it is of no more use"
    os.close(held)


@pytest.mark.usefixtures("one_thread")
def test_reading_a_large_pack_gives_heartbeats_and_ends_when_told_to_stop(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive, send = os.pipe()
    monkeypatch.setattr(Commands, "_read", lambda self: None)
    commands, reports = Commands(), Reports(send)
    monkeypatch.setattr(pack_digest, "_CHUNK_BYTES", 1000)
    chunks = []

    def stop_after_ten(**told: Any) -> None:
        chunks.append(told)
        if len(chunks) == 10:
            commands.stop(StopReason.CANCEL)

    monkeypatch.setattr(reports, "send_life", stop_after_ten)
    spec = describe_attempt(pack, tmp_path)
    assert trainer._train(spec, commands, reports) == Finished(outcome=Outcome.STOPPED, reason=StopReason.CANCEL)
    assert len(chunks) == 10
    assert not list(tmp_path.iterdir()), "it never began"
    os.close(send)
    os.close(receive)


def test_an_idle_child_ends_with_its_worker_after_an_attempt_too(pack: Pack, tmp_path: Path) -> None:
    with Child() as child:
        run(child, describe_attempt(pack, tmp_path, epochs=40), stop_at=1)
        assert child.close() == PARENT_IS_GONE


def test_a_long_validation_gives_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    receive, send = os.pipe()
    seconds = iter((0.0, 0.4, 1.1, 1.5, 2.2, 9.0))
    monkeypatch.setattr("alexnet_core.trainer.child.time.monotonic", lambda: next(seconds))
    monkeypatch.setattr(Commands, "_read", lambda self: None)
    hooks = ReportingHooks(Commands(), Reports(send))
    assert not any(hooks.should_stop() for _ in range(5))
    os.close(send)
    with os.fdopen(receive, "rb") as lines:
        assert [parse_report(line) for line in lines] == [Alive()] * 3


def test_a_child_that_does_not_understand_its_spec_says_so_and_ends() -> None:
    with Child() as child:
        assert child.read() == Ready()
        child.write(b'{"type": "spec", "job_id": "job_1"}\n')
        failed = child.read()
        assert isinstance(failed, Failed)
        assert failed.code == "protocol_error"
        assert "spec.lease_epoch: Field required" in failed.message
        assert child.end() == 1


def test_a_command_of_no_known_type_does_not_end_an_attempt(pack: Pack, tmp_path: Path) -> None:
    with Child() as child:
        assert child.read() == Ready()
        child.send(describe_attempt(pack, tmp_path, epochs=3))
        child.write(b'{"type": "cheer"}\n')
        *_, last = child.read_attempt()
        assert isinstance(last, Finished)
        assert last.outcome is Outcome.SUCCEEDED
        assert child.end() == 0


def test_a_child_that_evaluates_in_detail_stops_when_told_and_does_it_all_at_the_next_attempt(
    pack: Pack, tmp_path: Path
) -> None:
    path = tmp_path / "evaluations" / "job_1.jsonl"
    spec = describe_attempt(
        pack, tmp_path / "run", epochs=2, evaluation_path=path, failpoints={"in_final_evaluation": "sleep:1"}
    )
    with Child() as child:
        assert child.read() == Ready()
        child.send(spec)
        saved: list[CheckpointSaved] = []
        last: AnyReport | None = None
        for report in child.read_attempt():
            if isinstance(report, CheckpointSaved):
                saved.append(report)
            if len(saved) == 2 and isinstance(report, CheckpointSaved):
                while not path.exists():
                    time.sleep(0.01)
                child.send(Stop(reason=StopReason.PAUSE))
            last = report
        assert isinstance(last, Finished)
        assert (last.outcome, last.reason, last.stays, last.test) == ("stopped", "pause", True, None)
        assert [json.loads(line)["state"] for line in path.read_bytes().splitlines()] == ["begun", "stopped"]
        again = run(child, describe_attempt(
            pack, tmp_path / "run", epochs=2, evaluation_path=path, resume_from=saved[-1].path, lease_epoch=2
        ))  # fmt: skip
        assert (again[-1].outcome, again[-1].weights_sha256) == ("succeeded", last.weights_sha256)
    record = parse_last_record(path.read_bytes())
    assert record is not None
    assert record.evaluation is not None
    assert (record.lease_epoch, record.evaluation.num_images) == (2, 30)
