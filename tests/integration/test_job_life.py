"""Pause, resume, retry and delete in a real yard, and whether the weights know of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.running import PATIENCE_S, RunningYard
from trainyard.client import ApiError, Client
from trainyard.client.answers import Answer

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

STEADY: dict[str, Any] = {"epochs": 6, "schedule": "constant"}  #: a rate that does not follow from the number of epochs


@pytest.fixture(scope="module")
def undisturbed(yard: RunningYard) -> Answer:
    with Client(yard.url) as client:
        job = client.create_job("digits", overrides=STEADY, seed=11)
        return client.wait(job["id"], timeout_s=PATIENCE_S)


def wait_for(client: Client, job_id: str, condition: Callable[[Answer], bool], timeout_s: float = PATIENCE_S) -> Answer:
    deadline = time.monotonic() + timeout_s
    while not condition(job := client.get_job(job_id)):
        assert time.monotonic() < deadline, job
        assert job["state"] not in {"succeeded", "failed"}, job
        time.sleep(0.05)
    return job


def test_a_job_that_was_paused_twice_ends_with_the_same_weights(client: Client, undisturbed: Answer) -> None:
    job_id = client.create_job("digits", overrides=STEADY, seed=11)["id"]
    for step in (5, 30):
        wait_for(client, job_id, lambda job: job["progress"]["step"] >= step)  # noqa: B023
        assert client.pause_job(job_id)["state"] in {"pausing", "paused"}
        paused = wait_for(client, job_id, lambda job: job["state"] == "paused")
        newest = client.list_checkpoints(job_id)[0]
        assert newest["step"] >= max(step, paused["progress"]["step"])
        assert paused["worker"] is None
        assert client.resume_job(job_id)["state"] in {"queued", "running"}
    job = client.wait(job_id, timeout_s=PATIENCE_S)
    assert job["state"] == "succeeded", job["error"]
    assert (job["attempt"], job["failures"]) == (3, 0)
    assert job["weights_sha256"] == undisturbed["weights_sha256"]


def test_a_slot_of_a_paused_job_is_free_for_another(client: Client) -> None:
    paused = client.create_job("digits", overrides={"epochs": 500}, seed=1)["id"]
    wait_for(client, paused, lambda job: job["progress"]["step"] > 0)
    client.pause_job(paused)
    other = client.create_job("digits", overrides={"epochs": 1}, seed=2)["id"]
    assert client.wait(other, timeout_s=PATIENCE_S)["state"] == "succeeded"
    assert client.get_job(paused)["state"] == "paused"
    assert client.cancel_job(paused)["state"] == "cancelled"


def test_a_retry_for_longer_ends_with_the_weights_of_a_job_that_was_longer_from_the_start(
    client: Client, undisturbed: Answer
) -> None:
    short = client.wait(
        client.create_job("digits", overrides=STEADY | {"epochs": 3}, seed=11)["id"], timeout_s=PATIENCE_S
    )
    longer = client.retry_job(short["id"], overrides={"epochs": 6})
    assert (longer["parent_id"], longer["resume_from"]) == (short["id"], short["latest_checkpoint"])
    with pytest.raises(ApiError, match="in_use"):
        client.delete_job(short["id"])
    done = client.wait(longer["id"], timeout_s=PATIENCE_S)
    assert done["state"] == "succeeded", done["error"]
    assert done["weights_sha256"] == undisturbed["weights_sha256"]
    assert done["test"] == undisturbed["test"]


def test_a_job_that_was_cancelled_or_has_had_its_time_goes_on_to_the_same_weights(
    client: Client, undisturbed: Answer
) -> None:
    job = client.create_job("digits", overrides=STEADY, seed=11, max_runtime_s=0.5)
    failed = client.wait(job["id"], timeout_s=PATIENCE_S)
    assert (failed["state"], failed["error"]["code"]) == ("failed", "max_runtime")
    again = client.retry_job(failed["id"], overrides={"max_runtime_s": None})["id"]
    wait_for(client, again, lambda job: job["progress"]["step"] > 20)
    client.cancel_job(again)
    cancelled = client.wait(again, timeout_s=PATIENCE_S)
    assert cancelled["state"] == "cancelled"
    done = client.wait(client.retry_job(cancelled["id"])["id"], timeout_s=PATIENCE_S)
    assert done["weights_sha256"] == undisturbed["weights_sha256"]
    repeated = client.wait(client.retry_job(undisturbed["id"], origin="start")["id"], timeout_s=PATIENCE_S)
    assert repeated["weights_sha256"] == undisturbed["weights_sha256"]


def test_a_pack_that_rots_on_the_disk_is_made_again_and_the_job_goes_on(
    yard: RunningYard, client: Client, undisturbed: Answer
) -> None:
    [images] = yard.folder.glob("packs/ds_digits*/images.npy")
    content = bytearray(images.read_bytes())
    content[-1] ^= 1
    images.write_bytes(bytes(content))
    job = client.wait(client.create_job("digits", overrides=STEADY, seed=11)["id"], timeout_s=PATIENCE_S)
    assert job["state"] == "succeeded", job["error"]
    assert job["attempt"] == 2
    assert job["weights_sha256"] == undisturbed["weights_sha256"]
    reasons = [change["reason"] for change in job["state_history"]]
    assert "dataset_damaged" in reasons


def test_a_deleted_job_is_gone_with_its_files(yard: RunningYard, client: Client, undisturbed: Answer) -> None:
    begun = client.create_job("digits", overrides={"epochs": 1}, seed=3, init_from=undisturbed["latest_checkpoint"])
    begun = client.wait(begun["id"], timeout_s=PATIENCE_S)
    assert begun["metrics"]["val_top1"] > 0.9, "it knows digits already"
    assert list(yard.folder.rglob(f"*{begun['id']}*"))
    client.delete_job(begun["id"])
    with pytest.raises(ApiError, match="job_not_found"):
        client.get_job(begun["id"])
    assert not list(yard.folder.rglob(f"*{begun['id']}*"))
