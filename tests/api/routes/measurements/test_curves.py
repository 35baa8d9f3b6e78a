import io
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from alexnet_core.evaluation.curves import Curves, draw_curves
from tests.api.served import Served, error_of, wait_until
from trainyard.database.connection import now
from trainyard.database.ids import new_id
from trainyard.database.tables import JobMetric

UNKNOWN = new_id("job")


def add_points(served: Served, job_id: str, kind: str, *points: dict[str, Any], lease_epoch: int = 1) -> None:
    with served.database.writing() as session:
        for point in points:
            data = {key: value for key, value in point.items() if key not in {"step", "epoch"}}
            session.add(
                JobMetric(job_id=job_id, kind=kind, step=point["step"], epoch=point.get("epoch", 0), at=now(),
                          lease_epoch=lease_epoch, data=data)
            )  # fmt: skip


def steps(*numbers: int) -> list[dict[str, Any]]:
    return [{"step": step, "train_loss": 1 / step, "lr": 0.1, "images_per_s": 3.0} for step in numbers]


def epoch(number: int) -> dict[str, Any]:
    values = {"train_loss": 1.0, "val_loss": None, "val_top1": 0.5, "val_top5": 0.9, "seconds": 1.0}
    return {"epoch": number, "step": 10 * number} | values


def picture(response: httpx.Response) -> np.ndarray:
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/png"
    assert response.headers["cache-control"] == "no-cache, private"
    return np.asarray(Image.open(io.BytesIO(response.content)).convert("RGB"))


def test_the_picture_shows_what_the_trainer_reported(served: Served) -> None:
    job_id = served.add_job()
    add_points(served, job_id, "interval", *steps(5, 10, 15, 20))
    add_points(served, job_id, "epoch", epoch(1), epoch(2))
    served.add_checkpoint(job_id, 2)  # the best
    response = served.http.get(f"/jobs/{job_id}/curves.png")
    expected = Curves.of(steps(5, 10, 15, 20), [epoch(1), epoch(2)], best_epoch=2)
    assert response.content == draw_curves(expected, f"{job_id} · quick on ds_digits")
    assert picture(response).shape == (600, 1000, 3)


def test_a_job_without_points_gives_a_picture_that_says_so(served: Served) -> None:
    job_id = served.add_job()
    response = served.http.get(f"/jobs/{job_id}/curves.png")
    assert response.content == draw_curves(Curves(), f"{job_id} · quick on ds_digits")
    assert len(np.unique(picture(response))) > 2


def test_an_unknown_job_has_no_picture(http: httpx.Client) -> None:
    assert error_of(http.get(f"/jobs/{UNKNOWN}/curves.png"), 404, "job_not_found")["param"] == "job_id"


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
def test_a_picture_that_the_client_has_is_not_drawn_again(
    served: Served, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    job_id = served.add_job()
    add_points(served, job_id, "interval", *steps(5))
    etag = served.http.get(f"/jobs/{job_id}/curves.png").headers["etag"]
    monkeypatch.setattr("api.routes.measurements.curves.draw_curves", None)
    again = served.http.get(f"/jobs/{job_id}/curves.png", headers={"If-None-Match": form.format(etag)})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)


def test_a_new_point_and_a_new_best_epoch_give_a_new_picture(served: Served) -> None:
    job_id = served.add_job()
    etags: list[str] = []

    def look() -> None:
        known = {"If-None-Match": ", ".join(etags) or '"none"'}
        response = served.http.get(f"/jobs/{job_id}/curves.png", headers=known)
        assert response.status_code == 200
        etags.append(response.headers["etag"])

    look()
    add_points(served, job_id, "interval", *steps(10))
    look()
    add_points(served, job_id, "epoch", epoch(1))
    look()
    served.add_checkpoint(job_id, 1)
    look()
    assert len(set(etags)) == 4


def test_many_pictures_at_once_are_drawn_once_and_hold_nobody_up(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also not where one takes for ever: the routes' threads don't draw."""
    job_id, drawn, gate = served.add_job(), [], threading.Event()

    def draw(curves: Curves, title: str) -> bytes:
        drawn.append(title)
        assert gate.wait(30)
        return b"picture"

    monkeypatch.setattr("api.routes.measurements.curves.draw_curves", draw)

    def get() -> bytes:
        return httpx.get(f"{served.url}/jobs/{job_id}/curves.png", timeout=60, trust_env=False).content

    with ThreadPoolExecutor(80) as pool:
        asked = [pool.submit(get) for _ in range(80)]
        wait_until(lambda: len(drawn) == 1 and len(served.connections) >= 80, timeout_s=30)
        assert served.http.get("/jobs", timeout=20).status_code == 200
        assert not any(one.done() for one in asked)
        gate.set()
        assert {one.result() for one in asked} == {b"picture"}
    assert len(drawn) == 1
