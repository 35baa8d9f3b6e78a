from __future__ import annotations

import re

import pytest
from pydantic import SecretStr

from api.observability.requests import kind_of_model
from tests.api.conftest import Serve
from tests.api.served import Served, png, wait_until


def metrics_of(served: Served) -> dict[str, float]:
    """What `/metrics` tells, by name and labels."""
    answer = served.http.get("/metrics", headers={"Authorization": f"Bearer {'k' * 20}"})
    assert answer.status_code == 200, answer.text
    lines = [line.rpartition(" ") for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def requests_of(served: Served) -> dict[tuple[str, ...], float]:
    """How often which (method, route, status, code) was counted."""
    found: dict[tuple[str, ...], float] = {}
    for name, value in metrics_of(served).items():
        if name.startswith("trainyard_http_requests_total"):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', name))
            found[labels["method"], labels["route"], labels["status"], labels["code"]] = value
    return found


def test_requests_are_counted_by_route_status_and_code(served: Served) -> None:
    job_id = served.add_job()
    for _ in range(3):
        served.http.get(f"/jobs/{job_id}")
    served.http.get("/jobs/job_nowhere")
    served.http.head(f"/jobs/{job_id}")
    served.http.get(f"/{job_id}/elsewhere")
    served.http.post("/jobs", json={"dataset": "nothing"})
    served.http.request("PROPFIND", "/jobs")
    counted = requests_of(served)
    assert counted["GET", "/jobs/{job_id}", "200", "ok"] == 3
    assert counted["GET", "/jobs/{job_id}", "404", "job_not_found"] == 1
    assert counted["HEAD", "/jobs/{job_id}", "200", "ok"] == 1
    assert counted["GET", "none", "404", "route_not_found"] == 1
    assert counted["POST", "/jobs", "404", "dataset_not_found"] == 1
    assert counted["other", "/jobs", "405", "method_not_allowed"] == 1
    text = served.http.get("/metrics").text
    assert job_id not in text  # the number of series is bounded, whatever clients ask for
    assert "nowhere" not in text
    assert "PROPFIND" not in text
    seconds = metrics_of(served)
    assert seconds['trainyard_http_request_duration_seconds_count{method="GET",route="/jobs/{job_id}"}'] == 4


def test_a_request_without_the_key_is_counted_with_its_refusal(serve: Serve) -> None:
    served = serve(admin_key=SecretStr("k" * 20))
    served.http.get("/jobs")
    assert requests_of(served)["GET", "none", "401", "unauthenticated"] == 1


def test_predictions_are_counted_by_how_the_model_was_named(served: Served) -> None:
    served.http.post("/predict", content=png(), headers={"Content-Type": "image/png"})
    checkpoint = served.add_checkpoint(served.add_job(), 1)
    wait_until(lambda: served.http.get("/readyz").json()["model"] == "ok")
    for reference in ("latest", checkpoint.id, checkpoint.job_id, f"{checkpoint.job_id}@epoch-1", "nobody"):
        served.http.post(f"/predict?model={reference}", content=png(), headers={"Content-Type": "image/png"})
    served.http.post("/predict", content=b"no image", headers={"Content-Type": "image/png"})
    counted = {name: value for name, value in metrics_of(served).items() if "predict_requests_total" in name}
    assert {re.sub(r".*\{|\}", "", name): value for name, value in counted.items()} == {
        'code="no_checkpoint",model="latest"': 1,
        'code="ok",model="latest"': 1,
        'code="ok",model="checkpoint"': 1,
        'code="ok",model="job"': 2,
        'code="alias_not_found",model="alias"': 1,
        'code="image_format_unsupported",model="latest"': 1,
    }


@pytest.mark.parametrize(
    ("reference", "kind"),
    [
        ("latest", "latest"),
        ("ckpt_01m86wd1xyejt7c1hj1xy1h43v", "checkpoint"),
        ("job_01m86wd1xyejt7c1hj1xy1h43v", "job"),
        ("job_01m86wd1xyejt7c1hj1xy1h43v@latest", "job"),
        ("production", "alias"),
        ("", "alias"),
    ],
)
def test_a_models_name_has_a_kind(reference: str, kind: str) -> None:
    assert kind_of_model(reference) == kind
