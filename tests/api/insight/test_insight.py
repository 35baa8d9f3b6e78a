"""Passes that take long, fail or are made elsewhere, and checkpoints that turn out to be damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alexnet_core.insight.methods import PassKind
from alexnet_core.insight.protocol import Answer, GoOn
from api.insight import insight as module
from api.insight.child_process import ChildEnded, InsightProcess
from api.insight.results import ResultKey
from tests.api.conftest import Serve
from tests.api.served import Served, error_of, wait_until
from tests.api.trained_toy import TrainedToy, add_trained_toy

PNG = {"Content-Type": "image/png"}


@pytest.fixture
def own(serve: Serve, tmp_path: Path) -> TrainedToy:
    """A yard of this test alone, whose child is never started: its answers are the test's."""
    return add_trained_toy(serve(), tmp_path / "made")


def answer_with(monkeypatch: pytest.MonkeyPatch, answers: list[Answer | Exception]) -> list[Any]:
    """Let the child give these answers, the last one again and again; returns what it was asked."""
    asked: list[Any] = []

    def ask(_: InsightProcess, request: Any, blob: bytes = b"", *, limit_s: float) -> tuple[Answer, bytes]:
        asked.append(request)
        one = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(one, Exception):
            raise one
        if isinstance(request, GoOn) and one.done == one.total:
            (request.draft / "answers.npz").write_bytes(b"not read here")
        return one, b""

    monkeypatch.setattr(InsightProcess, "ask", ask)
    return asked


def evaluate(own: TrainedToy, split: str = "test") -> Any:
    return own.served.http.get(f"/jobs/{own.job_id}/evaluation?split={split}")


def test_what_takes_long_is_gone_on_with_and_the_answer_says_how_far_it_is(
    own: TrainedToy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAIT_S", 0.2)
    asked = answer_with(monkeypatch, [Answer(done=10, total=30)])
    response = evaluate(own)
    error = error_of(response, 503, "insight_in_progress")
    assert "10 of 30 images" in error["message"]
    assert int(response.headers["retry-after"]) >= 1
    assert [one.done for one in asked[:3]] == [0, 10, 10]
    error_of(evaluate(own), 503, "insight_in_progress")
    assert len({one.draft for one in asked}) == 1, "the second request waits for the same pass"


def test_a_failure_is_told_and_tried_again_after_a_while(own: TrainedToy, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer_with(monkeypatch, [ChildEnded(too_slow=False)])
    assert "ended" in error_of(evaluate(own), 503, "insight_failed")["message"]
    assert "ended" in error_of(evaluate(own), 503, "insight_failed")["message"]
    assert len(asked) == 1
    assert not list((own.served.settings.data_dir / "insight").rglob("rows.npy"))
    monkeypatch.setattr(module, "_FAILED_FOR_S", -1.0)
    error_of(evaluate(own), 503, "insight_failed")
    assert len(asked) == 2


def test_what_another_process_makes_is_waited_for(own: TrainedToy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AGAIN_S", 0.05)
    monkeypatch.setattr(module, "WAIT_S", 0.5)
    asked = answer_with(monkeypatch, [Answer(done=30, total=30)])
    insight = own.served.app.state.services.insight
    draft = insight.results.begin(ResultKey(own.checkpoint_id, PassKind.ANSWERS, "test"))
    error_of(evaluate(own), 503, "insight_in_progress")
    assert asked == []
    (draft.path / "answers.npz").write_bytes(b"damaged")
    draft.publish()
    assert "just removed" in error_of(evaluate(own), 503, "insight_in_progress")["message"]
    assert asked == []


def test_a_result_that_can_not_be_read_is_made_again(own: TrainedToy, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer_with(monkeypatch, [Answer(code="no_index"), Answer(done=30, total=30)])
    results = own.served.app.state.services.insight.results
    keys = {
        PassKind.ANSWERS: ResultKey(own.checkpoint_id, PassKind.ANSWERS, "test"),
        PassKind.CALIBRATION: ResultKey(own.checkpoint_id, PassKind.CALIBRATION, "validation"),
        PassKind.INDEX: ResultKey(own.checkpoint_id, PassKind.INDEX, "train"),
    }
    for key, name in zip(keys.values(), ("answers.npz", "calibration.json", "norms.npy"), strict=True):
        draft = results.begin(key)
        (draft.path / name).touch()  # as a power cut may leave it
        draft.publish()
    http = own.served.http
    for response in (
        evaluate(own),
        http.get(f"/checkpoints/{own.checkpoint_id}/calibration"),
        http.post(f"/similar?model={own.checkpoint_id}", content=own.image(), headers=PNG),
    ):
        assert "just removed" in error_of(response, 503, "insight_in_progress")["message"]
    assert len(asked) == 1
    assert [results.find(key) for key in keys.values()] == [None, None, None]
    evaluate(own)
    assert isinstance(asked[1], GoOn)


def test_a_failed_pass_is_forgotten(own: TrainedToy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FAILED_FOR_S", 0.05)
    answer_with(monkeypatch, [ChildEnded(too_slow=False)])
    error_of(evaluate(own), 503, "insight_failed")
    wait_until(lambda: not own.served.app.state.services.insight._passes)


def test_a_damaged_checkpoint_is_set_aside(own: TrainedToy, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, [Answer(code="checkpoint_corrupt", message="config.json differs")])
    (weights,) = own.served.settings.data_dir.glob("checkpoints/*/*/weights.safetensors")
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    response = own.served.http.post(f"/explain?model={own.checkpoint_id}", content=own.image(), headers=PNG)
    assert "damaged" in error_of(response, 404, "checkpoint_not_found")["message"]
    events = own.served.http.get(f"/jobs/{own.job_id}/events").json()["data"]
    assert "checkpoint_corrupt" in {event["reason"] for event in events}


def test_one_that_only_the_child_could_not_read_stays_in_use(own: TrainedToy, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, [Answer(code="checkpoint_corrupt", message="a bad sector")])
    response = own.served.http.post("/explain", content=own.image(), headers=PNG)
    error_of(response, 503, "storage_unavailable")
    assert own.served.http.get(f"/checkpoints/{own.checkpoint_id}").status_code == 200


def test_a_job_without_a_checkpoint_says_so(served: Served) -> None:
    job_id = served.add_job()
    response = served.http.post(f"/explain?model={job_id}", content=b"x", headers=PNG)
    error_of(response, 409, "no_checkpoint")
    error_of(served.http.get(f"/jobs/{job_id}/evaluation/images"), 409, "no_checkpoint")


def test_too_many_requests_are_refused_at_once(own: TrainedToy, monkeypatch: pytest.MonkeyPatch) -> None:
    insight = own.served.app.state.services.insight
    monkeypatch.setattr(insight._thread, "_max_waiting", 0)
    response = own.served.http.post("/explain", content=own.image(), headers=PNG)
    error_of(response, 503, "insight_queue_full")
    assert response.headers["retry-after"] == "3"


def test_a_deleted_jobs_results_are_swept(own: TrainedToy, monkeypatch: pytest.MonkeyPatch) -> None:
    insight = own.served.app.state.services.insight
    for checkpoint_id in (own.checkpoint_id, "ckpt_gone"):
        draft = insight.results.begin(ResultKey(checkpoint_id, PassKind.ANSWERS, "test"))
        draft.publish()
    insight._sweep(None)
    assert [path.name for path in (own.served.settings.data_dir / "insight").iterdir()] == [own.checkpoint_id]
