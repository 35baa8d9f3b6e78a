"""Measures predictions while new checkpoints become `latest`, and without; then counts answers under restarts.

    .venv/bin/python -m bench.reload [--case small] [--clients 16] [--seconds 12] [--every-s 2] [--restarts 20]

`wrk` sends the requests from the same cores. Then, while clients of Python's predict over new connections all the time,
the engine is killed again and again; every answer is counted.
"""

from __future__ import annotations

import argparse
import collections
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx

from bench.serving import find_child, wait_until_ready
from bench.serving_peers.cases import CASES, make_material
from bench.serving_peers.load import Measurement, measure, write_script
from bench.serving_peers.messages import Message
from bench.serving_peers.yard import plant, publish
from trainyard.database.connection import Database
from trainyard.launch.queue_server import free_port
from trainyard.settings import Settings

CLIENTS_OF_RESTARTS = 4


def measure_reloads(
    port: int, script: Path, settings: Settings, checkpoint: Path, job_id: str, given: argparse.Namespace
) -> None:
    """Print p50 and p99 of both, round by round."""
    database, epoch = Database(settings.sqlalchemy_url), 1
    for number in range(given.rounds):
        steady = measure(port, "/predict", script, clients=given.clients, seconds=given.seconds)
        found: list[Measurement] = []

        def load(found: list[Measurement] = found) -> None:
            found.append(measure(port, "/predict", script, clients=given.clients, seconds=given.seconds))

        thread = threading.Thread(target=load)
        thread.start()
        published = 0
        while thread.is_alive():
            epoch, published = epoch + 1, published + 1
            publish(database, checkpoint, settings.data_dir, job_id, epoch)
            thread.join(given.every_s)
        print(f"round {number + 1}: steady {_tell(steady)}; with {published} reloads {_tell(found[0])}", flush=True)
    database.close()


def _tell(found: Measurement) -> str:
    return f"{found.requests_per_s:,.0f}/s, p50 {found.p50_ms:.1f}, p99 {found.p99_ms:.1f} ms, {found.errors} errors"


def measure_restarts(port: int, image: bytes, api: int, restarts: int) -> None:
    """Kill the engine again and again, and print the answers by status."""
    over, statuses = threading.Event(), collections.Counter[str]()

    def load() -> None:
        while not over.is_set():
            with httpx.Client(trust_env=False, timeout=30) as client:
                try:
                    answer = client.post(
                        f"http://127.0.0.1:{port}/predict", content=image, headers={"Content-Type": "image/png"}
                    )
                    statuses[str(answer.status_code)] += 1
                except httpx.HTTPError as exc:
                    statuses[type(exc).__name__] += 1

    threads = [threading.Thread(target=load) for _ in range(CLIENTS_OF_RESTARTS)]
    for thread in threads:
        thread.start()
    for _ in range(restarts):
        before = statuses["200"]
        os.kill(find_child(api, "api.engine_process"), signal.SIGKILL)
        while statuses["200"] < before + 50:
            time.sleep(0.1)
    over.set()
    for thread in threads:
        thread.join()
    print(f"{restarts} times the engine was killed; answers: {dict(statuses)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--case", choices=sorted(CASES), default="small")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=int, default=12)
    parser.add_argument("--every-s", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--restarts", type=int, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "material").mkdir()
        case = CASES[given.case]
        material = make_material(case, Path(folder) / "material")
        settings = Settings(data_dir=Path(folder) / "data", port=free_port())
        settings.data_dir.mkdir()
        job_id = plant(material.checkpoint, settings.data_dir)
        environment = os.environ | {"TRAINYARD_DATA_DIR": str(settings.data_dir), "TRAINYARD_PORT": str(settings.port)}
        api = subprocess.Popen([sys.executable, "-m", "api"], env=environment, stderr=subprocess.DEVNULL)
        try:
            wait_until_ready(settings.port)
            time.sleep(5)
            script = write_script(Message({"Content-Type": case.content_type}, material.image), Path(folder))
            measure(settings.port, "/predict", script, clients=given.clients, seconds=2)
            measure_reloads(settings.port, script, settings, material.checkpoint, job_id, given)
            measure_restarts(settings.port, material.image, api.pid, given.restarts)
        finally:
            api.terminate()
            api.wait(60)


if __name__ == "__main__":
    main()
