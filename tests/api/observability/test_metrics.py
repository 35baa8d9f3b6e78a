"""The names and labels are Prometheus' own, as its own tools judge."""

from __future__ import annotations

import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import SecretStr

from api.observability.serving_observer import LoadOutcome
from tests.api.conftest import Serve
from tests.api.observability.test_requests import metrics_of
from tests.api.served import FakeRuntime, Served, error_of, png, wait_until

KEY, METRICS_KEY = "k" * 20, "m" * 20


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_what_is_told_keeps_the_conventions(served: Served) -> None:
    served.metrics.decoded([0.01], large=False)
    served.metrics.loaded(0.5, LoadOutcome.DAMAGED)
    text = served.http.get("/metrics").text
    judged = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    assert (judged.returncode, judged.stdout + judged.stderr) == (0, "")


def test_predictions_are_told_as_they_happen(served: Served, runtime: FakeRuntime) -> None:
    job_id = served.add_job()
    served.add_checkpoint(job_id, 1)
    newest = served.add_checkpoint(job_id, 2)
    served.add_checkpoint(job_id, 3, damaged=True)
    wait_until(lambda: metrics_of(served)["trainyard_served_publication_number"] == newest.publication)
    wait_until(lambda: metrics_of(served)['trainyard_model_loads_total{outcome="damaged"}'] == 1)
    runtime.gate = threading.Event()
    files = [("file", (f"{number}.png", png(), "image/png")) for number in range(3)]
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(served.http.post, "/predict", files=files)
        wait_until(lambda: metrics_of(served)["trainyard_predict_queued_images"] == 3)
        runtime.gate.set()
        assert answer.result().status_code == 200
    told = metrics_of(served)
    assert told["trainyard_predict_queued_images"] == 0
    assert told['trainyard_predict_decode_seconds_count{image="small"}'] == 3
    assert told["trainyard_predict_batch_images_sum"] == 3
    assert told["trainyard_predict_queue_seconds_count"] == 3
    assert told["trainyard_predict_compute_seconds_count"] == told["trainyard_predict_batch_images_count"] >= 1
    assert told['trainyard_model_loads_total{outcome="loaded"}'] == 1
    assert told["trainyard_models_loaded"] == 1
    assert told["trainyard_models_loaded_bytes"] == newest.files["weights.safetensors"]["size"]
    wait_until(lambda: metrics_of(served)["trainyard_newest_publication_number"] == newest.publication)

    runtime.trouble = OSError("too many open files")
    served.add_checkpoint(job_id, 4)
    wait_until(lambda: metrics_of(served)['trainyard_model_loads_total{outcome="failed"}'] >= 1)
    assert metrics_of(served)["trainyard_served_publication_number"] == newest.publication


def test_a_large_image_is_told_as_one(served: Served) -> None:
    served.add_checkpoint(served.add_job(), 1)
    wait_until(lambda: served.http.get("/readyz").json()["model"] == "ok")
    answer = served.http.post("/predict", content=png(size=2100), headers={"Content-Type": "image/png"})
    assert answer.status_code == 200
    assert metrics_of(served)['trainyard_predict_decode_seconds_count{image="large"}'] == 1


def test_the_engines_work_is_told(served: Served) -> None:
    metrics = served.metrics
    metrics.decoded([0.003], large=False)
    metrics.decoded([1.5], large=True)
    metrics.queued(5)
    metrics.computed(3, 0.02, [0.001, 0.002, 99.0])
    metrics.loaded(0.5, LoadOutcome.LOADED)
    metrics.loaded(0.1, LoadOutcome.DAMAGED)
    metrics.holds(2, 1000)
    metrics.serves(17)
    metrics.leases_lost(2)
    metrics.queue_answers(up=False)
    told = metrics_of(served)
    assert told['trainyard_predict_decode_seconds_count{image="small"}'] == 1
    assert told['trainyard_predict_decode_seconds_sum{image="large"}'] == 1.5
    assert told["trainyard_predict_queued_images"] == 5
    assert told["trainyard_predict_batch_images_sum"] == 3
    assert told["trainyard_predict_compute_seconds_count"] == 1
    assert told["trainyard_predict_queue_seconds_count"] == 3
    assert told["trainyard_predict_queue_seconds_sum"] == 0.001 + 0.002 + 99
    buckets = [
        told[f'trainyard_predict_queue_seconds_bucket{{le="{bound}"}}']
        for bound in ("0.0005", "0.001", "0.0025", "5.0", "+Inf")
    ]
    assert buckets == [0, 1, 2, 2, 3]  # a bound belongs to its bucket
    assert told['trainyard_model_loads_total{outcome="loaded"}'] == 1
    assert told['trainyard_model_loads_total{outcome="damaged"}'] == 1
    assert told['trainyard_model_loads_total{outcome="failed"}'] == 0
    assert (told["trainyard_models_loaded"], told["trainyard_models_loaded_bytes"]) == (2, 1000)
    assert told["trainyard_served_publication_number"] == 17
    assert told["trainyard_leases_lost_total"] == 2
    assert told["trainyard_queue_up"] == 0


def test_it_asks_for_a_key_unless_the_settings_say_otherwise(serve: Serve) -> None:
    locked = serve(admin_key=SecretStr(KEY), metrics_key=SecretStr(METRICS_KEY))
    error_of(locked.http.get("/metrics"), 401, "unauthenticated")
    for key in (KEY, METRICS_KEY):
        assert locked.http.get("/metrics", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    with_metrics_key = {"Authorization": f"Bearer {METRICS_KEY}"}
    error_of(locked.http.get("/jobs", headers=with_metrics_key), 401, "unauthenticated")
    error_of(locked.http.post("/predict", headers=with_metrics_key), 401, "unauthenticated")

    opened = serve(admin_key=SecretStr(KEY), open_metrics=True)
    assert opened.http.get("/metrics").status_code == 200
    error_of(opened.http.get("/jobs"), 401, "unauthenticated")

    of_its_own = serve(metrics_key=SecretStr(METRICS_KEY))
    error_of(of_its_own.http.get("/metrics"), 401, "unauthenticated")
    for wrong in ({"Authorization": "Bearer another"}, {"Cookie": "trainyard_session_0=of another yard"}):
        error_of(of_its_own.http.get("/metrics", headers=wrong), 401, "unauthenticated")
    assert of_its_own.http.get("/metrics", headers=with_metrics_key).status_code == 200
    assert of_its_own.http.get("/jobs").status_code == 200


def test_openmetrics_is_spoken_to_those_who_ask(served: Served) -> None:
    plain = served.http.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    asked = served.http.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert asked.headers["content-type"].startswith("application/openmetrics-text")
    assert asked.text.endswith("# EOF\n")
