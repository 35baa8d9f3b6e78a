"""Aliases and `/v2` where web processes and the engine are processes of their own, as `python -m api` starts them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy import select
from tritonclient import http as triton

from tests.api.served import error_of, png
from tests.api.stored_networks import store_epoch
from tests.api.test_supervisor import Api, wait_for
from trainyard.database.connection import Database
from trainyard.database.tables import Checkpoint

pytestmark = pytest.mark.slow

PNG = {"Content-Type": "image/png"}


class Yard:
    """An API of two web processes, with three checkpoints of a job."""

    def __init__(self, folder: Path) -> None:
        self.api = Api(folder)
        self.url = self.api.url
        self.database = Database(self.api.settings.sqlalchemy_url)
        with self.database.reading() as session:
            [first] = session.scalars(select(Checkpoint)).all()
        self.checkpoints = [first.id]
        self.job_id = first.job_id
        for epoch in (2, 3):
            self.put(self.checkpoints[-1], f"keep-{epoch}")  # else it would be pruned
            self.checkpoints.append(store_epoch(self.api.settings, self.database, self.job_id, "quick", epoch))

    def put(self, checkpoint: str, name: str = "production", **more: Any) -> dict[str, Any]:
        response = httpx.put(f"{self.url}/aliases/{name}", json={"checkpoint": checkpoint} | more, timeout=30)
        assert response.status_code in (200, 201), response.text
        moved: dict[str, Any] = response.json()
        return moved

    def ask(self, **headers: str) -> dict[str, Any]:
        """A prediction over a new connection, which either web process takes."""
        url = f"{self.url}/predict?model=production"
        response = httpx.post(url, content=png(200, 8), headers=PNG | headers, timeout=30)
        assert response.status_code == 200, response.text
        model: dict[str, Any] = response.json()["model"]
        return model


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    yard = Yard(tmp_path_factory.mktemp("yard"))
    yield yard
    yard.api.process.kill()
    yard.api.process.wait()
    yard.database.close()


def test_every_process_follows_a_move_at_once_and_no_client_sees_a_version_go_back(yard: Yard) -> None:
    newest = yard.put(yard.checkpoints[0])["version"]
    done = threading.Event()
    bad: list[str] = []
    asked = [0]

    def watch() -> None:
        seen = 0
        while not done.is_set():
            version = yard.ask()["version"]
            asked[0] += 1
            if version < seen:
                bad.append(f"{version} after {seen}")
            seen = version

    watchers = [threading.Thread(target=watch) for _ in range(2)]
    for watcher in watchers:
        watcher.start()
    for number in range(1, 13):
        wanted = yard.checkpoints[number % 3]
        newest = yard.put(wanted)["version"]
        answers = {(it["version"], it["checkpoint"]) for it in (yard.ask() for _ in range(6))}
        assert answers == {(newest, wanted)}
    done.set()
    for watcher in watchers:
        watcher.join()
    assert not bad
    assert asked[0] > 12


def test_a_canary_is_sticky_over_all_processes_and_counted_once(yard: Yard) -> None:
    first, second, third = yard.checkpoints
    yard.put(first, canary={"checkpoint": second, "share": 0.5}, shadow=third)
    users = [f"user-{number}" for number in range(12)]
    sides = [{user: yard.ask(**{"X-Trainyard-Sticky": user})["side"] for user in users} for _ in range(3)]
    assert sides[0] == sides[1] == sides[2]
    assert set(sides[0].values()) == {"stable", "canary"}

    def counts() -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{yard.url}/aliases/production", timeout=30).json()["counts"]
        return found

    wait_for(lambda: counts()["stable"]["answers"] + counts()["canary"]["answers"] == 36)
    wait_for(lambda: counts()["shadow"]["answers"] + counts()["shadow"]["dropped"] == 36)
    assert counts()["shadow"]["answers"] > 0
    assert counts()["shadow"]["errors"] == 0


def test_a_damaged_checkpoint_moves_nothing_and_the_reason_crosses_the_border(yard: Yard) -> None:
    version = yard.put(yard.checkpoints[0])["version"]
    broken = store_epoch(yard.api.settings, yard.database, yard.job_id, "quick", 4)
    with yard.database.reading() as session:
        key = session.scalars(select(Checkpoint.key).where(Checkpoint.id == broken)).one()
    weights = yard.api.settings.data_dir / key / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    response = httpx.put(f"{yard.url}/aliases/production", json={"checkpoint": broken}, timeout=30)
    if response.status_code == 404:  # the engine had followed `latest` to it before this request
        assert error_of(response, 404, "checkpoint_not_found")["param"] == "checkpoint"
    else:
        assert error_of(response, 409, "checkpoint_unusable")["param"] == "checkpoint"
    assert yard.ask()["version"] == version


def test_tritonclient_over_all_processes(yard: Yard) -> None:
    first, second, _ = yard.checkpoints
    yard.put(first)
    yard.put(second)
    client = triton.InferenceServerClient(yard.url.removeprefix("http://"), concurrency=4)
    assert client.get_model_metadata("production")["parameters"]["checkpoint"] == second
    files = triton.InferInput("image", [2], "BYTES")
    files.set_data_from_numpy(np.array([png(200, 8), png(20, 8)], dtype=np.object_))
    pixels = triton.InferInput("pixels", [2, 8, 8, 3], "UINT8")
    pixels.set_data_from_numpy(np.stack([np.full((8, 8, 3), value, np.uint8) for value in (200, 20)]))
    by_files, by_pixels = (client.infer(second, [it]).as_numpy("probabilities") for it in (files, pixels))
    assert by_files.shape == (2, 10)
    assert by_files == pytest.approx(by_pixels)
    assert by_files.sum(axis=1) == pytest.approx(1, abs=1e-5)
    predicted = httpx.post(f"{yard.url}/predict?model={second}", content=png(200, 8), headers=PNG, timeout=30).json()[
        "predictions"
    ]
    best = client.infer(second, [files]).as_numpy("labels")[0].decode()
    assert best == predicted[0]["label"]
    assert by_files[0].max() == pytest.approx(predicted[0]["probability"], abs=1e-3)
    states = {it["name"]: it["state"] for it in client.get_model_repository_index()}
    assert states["production"] == "READY"
    client.close()


def test_an_alias_is_answered_again_when_the_engine_was_killed(yard: Yard) -> None:
    first, second, _ = yard.checkpoints
    version = yard.put(first, canary={"checkpoint": second, "share": 0.5})["version"]
    os.kill(yard.api.engine, signal.SIGKILL)
    answers = [yard.ask() for _ in range(5)]
    assert {it["version"] for it in answers} == {version}
    wait_for(lambda: {yard.ask()["side"] for _ in range(8)} == {"stable", "canary"})
