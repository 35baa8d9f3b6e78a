"""Traces of a real yard, as a collector receives them."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from tests.api.served import png
from tests.collector import Collector
from tests.integration.running import PATIENCE_S, start_yard
from trainyard.client import Client

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

TRACE = "e" * 32


def test_one_trace_leads_from_the_request_to_the_last_checkpoint_and_one_from_an_image_to_its_batch(
    tmp_path: Path,
) -> None:
    with Collector() as collector:
        yard = start_yard(tmp_path / "data", TRAINYARD_OTLP_ENDPOINT=collector.url)
        try:
            with Client(yard.url) as client, httpx.Client(base_url=yard.url, trust_env=False, timeout=60) as http:
                asked = http.post(
                    "/jobs",
                    json={"dataset": "digits", "overrides": {"epochs": 3, "width_multiplier": 0.25}},
                    headers={"traceparent": f"00-{TRACE}-{'f' * 16}-01"},
                )
                job = client.wait(asked.json()["id"], timeout_s=PATIENCE_S)
                assert job["state"] == "succeeded", job["error"]
                deadline = time.monotonic() + PATIENCE_S
                while (answer := http.post("/predict", files={"file": png(size=8)})).status_code != 200:
                    assert time.monotonic() < deadline, answer.text
                    time.sleep(0.2)
        finally:
            yard.stop()
    [request] = [span for span in collector.named("POST /jobs") if span.trace == TRACE]
    [attempt] = collector.named("attempt")
    assert (attempt.trace, attempt.parent, attempt.service) == (TRACE, request.id, "trainyard-worker")
    assert attempt.attributes["job_id"] == job["id"]
    [train] = collector.named("train")
    assert (train.trace, train.parent) == (TRACE, attempt.id)
    written = [span for span in collector.named("checkpoint") if span.attributes["kind"] == "epoch"]
    assert {(span.trace, span.parent) for span in written} == {(TRACE, train.id)}
    assert sorted(span.attributes["epoch"] for span in written) == [1, 2, 3]
    [predict] = [
        span
        for span in collector.named("POST /predict")
        if span.attributes["http.response.status_code"] == 200 and not span.failed
    ]
    [batch] = [span for span in collector.named("batch") if span.trace == predict.trace]
    assert (batch.attributes["images"], batch.service) == (1, "trainyard-engine")
    [waited] = [span for span in collector.named("queue") if span.trace == predict.trace]
    assert waited.links == (batch.id,)
    assert [span for span in collector.named("decode") if span.trace == predict.trace]
