"""What `/predict` answers while checkpoints come, go and rot: one that is whole, or a 503 in our own words."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from sqlalchemy import update

from tests.api.served import FakeRuntime, Served, error_of, png, wait_until
from tests.api.serving.test_runtime import real  # noqa: F401 - a fixture
from trainyard.database.tables import Checkpoint
from trainyard.storage.local import LocalStorage
from trainyard.upkeep.garbage import Garbage

PNG = {"Content-Type": "image/png"}
NUM_FLIPS = 200


def test_a_hundred_checkpoints_come_and_go_under_predictions(
    serve: Callable[..., Served], runtime: FakeRuntime
) -> None:
    served = serve(max_loaded_models=1)
    job_id = served.add_job()
    served.add_checkpoint(job_id, 1)
    storage = LocalStorage(served.settings.data_dir)
    garbage = Garbage(served.database, storage, grace_s=0)
    answers: list[httpx.Response] = []
    done = threading.Event()

    def ask(model: str) -> None:
        with httpx.Client(base_url=served.url, timeout=20, trust_env=False) as http:
            while not done.is_set():
                answers.append(http.post(f"/predict?model={model}", content=png(), headers=PNG))

    askers = [threading.Thread(target=ask, args=(name,)) for name in ("latest", job_id, f"{job_id}@latest")]
    for asker in askers:
        asker.start()
    most = 0
    for epoch in range(2, 102):
        served.add_checkpoint(job_id, epoch)
        garbage.tick()
        most = max(most, len(storage.list_names(f"checkpoints/{job_id}")))
    done.set()
    for asker in askers:
        asker.join()
    bad = [(answer.status_code, answer.text) for answer in answers if answer.status_code != 200]
    assert not bad, bad[:3]
    assert len(answers) >= 100
    assert most <= 6, "best, latest two, one on its way, and what is being read at that moment"


def test_an_unloaded_model_is_freed_without_the_lock_that_requests_need(serve: Callable[..., Served]) -> None:
    served = serve(max_loaded_models=1)
    job_id = served.add_job()
    first = served.add_checkpoint(job_id, 1)
    loader = served.app.state.services.engine._loader
    wait_until(lambda: loader.find(first.id))
    can_be_had: list[bool] = []

    def take_lock() -> None:
        if taken := loader._changed.acquire(blocking=False):
            loader._changed.release()
        can_be_had.append(taken)

    def take_lock_elsewhere() -> None:
        thread = threading.Thread(target=take_lock)
        thread.start()
        thread.join()

    weakref.finalize(loader.find(first.id).model, take_lock_elsewhere)
    served.add_checkpoint(job_id, 2)
    wait_until(lambda: can_be_had)
    assert can_be_had == [True]


def test_two_hundred_flipped_bits_never_serve(real: tuple[Served, Path, str]) -> None:  # noqa: F811
    served, whole_folder, whole_id = real
    files = {path.name: path.read_bytes() for path in whole_folder.iterdir() if path.is_file()}
    manifest = files.pop("manifest.json")
    broken = served.add_checkpoint(served.add_job(), 2, files=files, manifest=manifest)
    folder = served.settings.data_dir / broken.key
    names = [*files, "manifest.json"]
    draw = np.random.default_rng(18)
    for number in range(NUM_FLIPS):
        path = folder / names[number % len(names)]
        data = bytearray(path.read_bytes())
        place, bit = int(draw.integers(len(data))), int(draw.integers(8))
        data[place] ^= 1 << bit
        path.write_bytes(data)
        set_status(served, broken.id, "committed")
        response = served.http.post(f"/predict?model={broken.id}", content=png(), headers=PNG)
        error_of(response, 404, "checkpoint_not_found")
        latest = served.http.post("/predict", content=png(), headers=PNG)
        assert (latest.status_code, latest.json()["model"]["checkpoint"]) == (200, whole_id)
        data[place] ^= 1 << bit
        path.write_bytes(data)


def set_status(served: Served, checkpoint_id: str, status: str) -> None:
    with served.database.writing() as session:
        session.execute(update(Checkpoint).where(Checkpoint.id == checkpoint_id).values(status=status, pruned_at=None))


@pytest.mark.parametrize("model", ["latest", "job"])
def test_when_all_checkpoints_are_damaged_there_is_none(served: Served, model: str) -> None:
    job_id = served.add_job()
    for epoch in (1, 2):
        served.add_checkpoint(job_id, epoch, damaged=True)
    response = served.http.post(f"/predict?model={job_id if model == 'job' else model}", content=png(), headers=PNG)
    error_of(response, 503 if model == "latest" else 409, "no_checkpoint")


def test_a_damaged_newest_checkpoint_makes_the_one_before_answer_at_once(serve: Callable[..., Served]) -> None:
    served = serve()
    job_id = served.add_job()
    whole = served.add_checkpoint(job_id, 1).id
    served.add_checkpoint(job_id, 2, damaged=True)
    for model in ("latest", job_id, f"{job_id}@latest"):
        response = served.http.post(f"/predict?model={model}", content=png(), headers=PNG)
        assert (response.status_code, response.json().get("model", {}).get("checkpoint")) == (200, whole), response.text
