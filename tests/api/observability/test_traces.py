from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.api.served import FakeRuntime, Served, png, wait_until
from trainyard import tracing
from trainyard.database.tables import Job
from trainyard.settings import Settings

TRACE = "c" * 32
HEADERS = {"traceparent": f"00-{TRACE}-{'d' * 16}-01"}
PNG = {"Content-Type": "image/png"}


@pytest.fixture
def exporter(served: Served) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    tracing.start(Settings(), "test", exporter)
    yield exporter
    tracing.stop()


def ended(exporter: InMemorySpanExporter) -> list[ReadableSpan]:
    tracing.stop()
    return list(exporter.get_finished_spans())


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def test_a_job_keeps_the_trace_of_the_request_that_made_it(served: Served, exporter: InMemorySpanExporter) -> None:
    traced = served.http.post("/jobs", json={"dataset": "digits"}, headers=HEADERS).json()["id"]
    retried = served.http.post("/jobs", json={"dataset": "digits"}).json()["id"]
    served.http.get("/healthz")
    served.http.get("/jobs/job_nowhere")
    with served.database.reading() as session:
        rows = {job_id: session.get_one(Job, job_id).traceparent for job_id in (traced, retried)}
    spans = ended(exporter)
    made = {f"00-{one.context.trace_id:032x}-{one.context.span_id:016x}": one for one in spans}
    assert f"-{TRACE}-" in str(rows[traced])
    assert f"-{TRACE}-" not in str(rows[retried])
    assert {made[str(row)[:-3]].name for row in rows.values()} == {"POST /jobs"}
    missing = next(one for one in spans if one.name == "GET /jobs/{job_id}")
    assert missing.attributes is not None
    assert missing.attributes["error.type"] == "job_not_found"
    assert not any("healthz" in one.name for one in spans)


def test_without_traces_a_job_has_none(served: Served) -> None:
    job_id = served.http.post("/jobs", json={"dataset": "digits"}, headers=HEADERS).json()["id"]
    with served.database.reading() as session:
        assert session.get_one(Job, job_id).traceparent is None


def test_predictions_that_are_computed_together_are_linked_to_one_batch(
    served: Served, runtime: FakeRuntime, exporter: InMemorySpanExporter
) -> None:
    served.add_checkpoint(served.add_job(), 1)
    wait_until(lambda: served.http.get("/readyz").json()["model"] == "ok")
    untraced = {"traceparent": HEADERS["traceparent"].removesuffix("1") + "0"}
    served.http.post("/predict", content=png(), headers=PNG | untraced)  # a fast one: large batches are worth it
    runtime.gate = threading.Event()
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(served.http.post, "/predict", content=png(), headers=PNG | HEADERS)
        wait_until(lambda: len(runtime.batches) == 2)  # it is being computed: the next three are computed together
        others = [pool.submit(served.http.post, "/predict", content=png(), headers=PNG) for _ in range(3)]
        wait_until(lambda: served.app.state.services.engine._batcher.num_waiting == 3)
        runtime.gate.set()
        assert {one.result().status_code for one in [first, *others]} == {200}
    spans = ended(exporter)
    by_id = {one.context.span_id: one for one in spans}
    requests = [one for one in spans if one.name == "POST /predict"]
    assert len(requests) == 4
    batches = {(one.attributes or {})["images"]: one for one in spans if one.name == "batch"}
    assert set(batches) == {1, 3}
    together = batches[3]
    assert len(together.links) == 2
    belonging = [parent_of(together), *(link.context.span_id for link in together.links)]
    assert {by_id[span_id].name for span_id in belonging if span_id is not None} == {"POST /predict"}
    assert len(set(belonging)) == 3
    waits = [one for one in spans if one.name == "queue" and one.links[0].context.span_id == together.context.span_id]
    assert {parent_of(one) for one in waits} == set(belonging)
    decoded = [one for one in spans if one.name == "decode"]
    assert {parent_of(one) for one in decoded} == {one.context.span_id for one in requests}
    alone = batches[1]
    assert f"{alone.context.trace_id:032x}" == TRACE
