"""A crash in the evaluation in detail, after a job of a real yard, costs only that step."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.integration.running import PATIENCE_S, start_yard
from trainyard.client import Client

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]


def test_a_trainer_that_dies_in_it_costs_only_the_evaluation(tmp_path: Path) -> None:
    yard = start_yard(
        tmp_path / "data", TRAINYARD_TESTING="1", TRAINYARD_FAILPOINTS="in_final_evaluation=kill9",
        TRAINYARD_BACKOFF_S="0.1",
    )  # fmt: skip
    try:
        with Client(yard.url) as client, httpx.Client(base_url=yard.url, trust_env=False, timeout=60) as http:
            job = client.wait(client.create_job("digits", overrides={"epochs": 2}, seed=3)["id"], timeout_s=PATIENCE_S)
            assert job["state"] == "succeeded", job["error"]
            assert job["test"] is not None
            assert job["attempt"] == 2
            events = http.get(f"/jobs/{job['id']}/events", params={"limit": 100}).json()["data"]
            assert "evaluation_cut_off" in [event["reason"] for event in events if event["type"] == "warning"]
            answer = http.get(f"/jobs/{job['id']}/evaluation")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "evaluation_not_found")
    finally:
        yard.stop()
