"""A whole yard whose processes die at the worst moments: the job ends with the weights of one that nothing hit."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from alexnet_core.data.pack import open_pack
from tests.alexnet_core.data.intake.test_packing import write_classes
from tests.integration.running import ALL_THREADS, PATIENCE_S, RunningYard, start_yard
from trainyard.client import Client
from trainyard.client.answers import Answer
from trainyard.failpoints import NAMES

NUMBERS = {"checkpoint_byte_N": "checkpoint_byte_50000", "step_N": "step_5"}
OF_A_DATASET = ["intake_checking_5", "intake_packing_5", "before_settling"]
OF_A_PREDICTION = ["predict_row_150", "predict_segment_300", "before_recording_500"]
_COUNTED = {name.rstrip("0123456789") for name in [*OF_A_DATASET, *OF_A_PREDICTION]}
EVERY = [NUMBERS.get(name, name) for name in NAMES if name.removesuffix("N") not in _COUNTED]
FEW = ["after_commit", "after_claim", "before_checkpoint_commit", "checkpoint_byte_50000"]
SETTINGS = {
    "TRAINYARD_TESTING": "1",
    "TRAINYARD_LEASE_TTL_S": "3",
    "TRAINYARD_REAPER_S": "0.5",
    "TRAINYARD_WAKE_AGAIN_S": "2",
    "TRAINYARD_BACKOFF_S": "0.1",
    "TRAINYARD_GARBAGE_GRACE_S": "1",
    "TRAINYARD_MAX_FAILURES": "50",
}
JOB: dict[str, Any] = {"overrides": {"epochs": 3}, "seed": 7}


def through_outages(url: str, ask: Callable[[Client, float], Answer], within_s: float) -> Answer:
    """What a careful client does: ask again until there is an answer, although the API may go away."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            with Client(url, timeout_s=10) as client:
                return ask(client, deadline - time.monotonic())
        except httpx.HTTPError:
            assert time.monotonic() < deadline, "the API does not come back"
            time.sleep(0.2)


def leftovers(folder: Path) -> set[str]:
    """What lies below the checkpoints and is no checkpoint's folder of its name's form."""
    half = {str(path) for path in folder.glob("checkpoints/*/.*")} | {str(path) for path in folder.glob("packs/.*")}
    return half


def survives(folder: Path, names: list[str], action: str) -> None:
    points = ",".join(f"{name}=once:{action}" for name in names)
    yard = start_yard(folder, **SETTINGS, **ALL_THREADS, TRAINYARD_FAILPOINTS=points)
    try:
        _check(yard, names)
    finally:
        assert yard.stop() == 0


def _check(yard: RunningYard, names: list[str]) -> None:
    posted = through_outages(
        yard.url, lambda it, _: it.create_job("digits", idempotency_key="the-one", **JOB), PATIENCE_S
    )
    job = through_outages(yard.url, lambda it, left_s: it.wait(posted["id"], timeout_s=left_s), PATIENCE_S)
    assert job["state"] == "succeeded", job["error"]
    hit = {path.name for path in (yard.folder / "failpoints").iterdir()}
    assert hit == set(names), f"not hit: {set(names) - hit}"
    with Client(yard.url) as client:
        undisturbed = client.wait(client.create_job("digits", **JOB)["id"], timeout_s=PATIENCE_S)
        assert undisturbed["attempt"] == 1
        assert job["weights_sha256"] == undisturbed["weights_sha256"]
        jobs = httpx.get(f"{yard.url}/jobs", trust_env=False, timeout=60).json()["data"]
        assert {row["id"] for row in jobs} == {job["id"], undisturbed["id"]}, "one request, one job"
        listed = {row["step"] for row in client.list_checkpoints(job["id"]) if row["kind"] == "epoch"}
    root = yard.folder / "checkpoints" / job["id"]
    deadline = time.monotonic() + PATIENCE_S
    while leftovers(yard.folder) or len(list(root.iterdir())) != len(listed):
        assert time.monotonic() < deadline, sorted(path.name for path in root.iterdir())
        time.sleep(0.2)


@pytest.mark.end_to_end
@pytest.mark.slow
def test_a_job_survives_a_kill_at_a_few_places(tmp_path: Path) -> None:
    survives(tmp_path / "data", FEW, "kill9")


@pytest.mark.end_to_end
@pytest.mark.slow
def test_a_dataset_survives_a_kill_at_every_place_of_its_validation(tmp_path: Path) -> None:
    """Its upload, too: the API dies between the commit of the dataset and its answer."""
    names = [*OF_A_DATASET, "after_commit", "after_claim"]
    folder = write_classes(tmp_path / "shapes", {"round": 12, "square": 12})
    points = ",".join(f"{name}=once:kill9" for name in names)
    yard = start_yard(tmp_path / "data", **SETTINGS, TRAINYARD_FAILPOINTS=points)
    try:
        pushed = through_outages(yard.url, lambda it, _: it.create_dataset(folder), PATIENCE_S)
        dataset = through_outages(
            yard.url, lambda it, left_s: it.wait_for_dataset(pushed["id"], timeout_s=left_s), PATIENCE_S
        )
        assert dataset["state"] == "ready", dataset["error"]
        assert {path.name for path in (yard.folder / "failpoints").iterdir()} == set(names)
        open_pack(yard.folder / "packs" / dataset["id"]).verify()
        deadline = time.monotonic() + PATIENCE_S
        while list((yard.folder / "uploads").glob("upl_*")) or list((yard.folder / "packs").glob(".*")):
            assert time.monotonic() < deadline, "something is left"
            time.sleep(0.2)
        rows = httpx.get(f"{yard.url}/datasets", trust_env=False, timeout=60).json()["data"]
        assert [row["id"] for row in rows if not row["builtin"]] == [dataset["id"]], "one request, one dataset"
    finally:
        assert yard.stop() == 0


@pytest.mark.end_to_end
@pytest.mark.slow
def test_a_prediction_survives_a_kill_at_every_place(tmp_path: Path) -> None:
    """Its worker and the child that computes it; every image has one row all the same, as it was streamed meanwhile."""
    points = ",".join(f"{name}=once:kill9" for name in OF_A_PREDICTION)
    settings = SETTINGS | {"TRAINYARD_PREDICTION_SEGMENT_ROWS": "100"}
    yard = start_yard(tmp_path / "data", **settings, TRAINYARD_FAILPOINTS=points)
    try:
        with Client(yard.url) as client:
            job = client.create_job("digits", overrides={"epochs": 1}, seed=7)
            assert client.wait(job["id"], timeout_s=PATIENCE_S)["state"] == "succeeded"
            made = client.create_prediction(dataset="digits")
            rows = list(client.iter_results(made["id"]))
            found = client.get_prediction(made["id"])
            stored = list(client.iter_results(made["id"]))
        assert {path.name for path in (yard.folder / "failpoints").iterdir()} == set(OF_A_PREDICTION)
        assert (found["state"], found["summary"]["num_rows"]) == ("succeeded", 1797)
        assert [row["row"] for row in rows] == [row["index"] for row in rows] == list(range(1797))
        assert rows == stored
        assert found["attempt"] == 1 + len(OF_A_PREDICTION)
    finally:
        assert yard.stop() == 0


@pytest.mark.chaos
@pytest.mark.parametrize("action", ["exit", "kill9"])
@pytest.mark.parametrize("name", EVERY)
def test_a_job_survives_a_death_at_every_place(tmp_path: Path, name: str, action: str) -> None:
    survives(tmp_path / "data", [name], action)


@pytest.mark.chaos
def test_a_job_survives_a_death_at_all_places(tmp_path: Path) -> None:
    survives(tmp_path / "data", EVERY, "kill9")
