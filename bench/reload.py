"""Measures predictions while new checkpoints become `latest`, and without; then counts answers under restarts.

    .venv/bin/python -m bench.reload [--case small] [--clients 16] [--seconds 12] [--every-s 2] [--restarts 5]

`wrk` sends the requests from the same cores. The checkpoints are written before; while the requests are under way they
are only committed. What a reload costs the engine is its CPU time beyond that of as many answers without one. Then,
while clients of Python's predict over new connections all the time, the engine is killed again and again; every answer
is counted.
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
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.overload import read_cpu
from bench.serving import find_child, wait_until_ready
from bench.serving_peers.cases import CASES, make_material
from bench.serving_peers.load import Measurement, measure, write_script
from bench.serving_peers.messages import Message
from bench.serving_peers.yard import commit, plant, store
from trainyard.database.connection import Database
from trainyard.launch.children import STEADY_S
from trainyard.launch.queue_server import free_port
from trainyard.settings import Settings

CLIENTS_OF_RESTARTS = 4
PATIENCE_S = 180.0


def measure_reloads(api: Api, script: Path, settings: Settings, checkpoint: Path, job_id: str) -> None:
    """Print p50 and p99 of both, round by round, and what a reload costs the engine."""
    database, given = Database(settings.sqlalchemy_url), api.given
    epoch = stored = 1
    for number in range(given.rounds):
        steady = api.load(script)
        while stored < epoch + 1 + int(given.seconds / given.every_s):
            stored += 1  # now: to write them is a worker's work, and none of what is measured
            store(checkpoint, settings.data_dir, job_id, stored)
        found: list[Loaded] = []
        thread = threading.Thread(target=lambda found=found: found.append(api.load(script)))
        thread.start()
        began = epoch
        while thread.is_alive() and epoch < stored:
            epoch += 1
            commit(database, checkpoint, job_id, epoch)
            thread.join(given.every_s)
        thread.join()
        reloads, [loaded] = epoch - began, found
        extra_s = loaded.engine_s - loaded.answers * steady.engine_s / max(1, steady.answers)
        print(
            f"round {number + 1}: steady {_tell(steady.measured)}; with {reloads} reloads {_tell(loaded.measured)}: "
            f"p99 {loaded.measured.p99_ms / steady.measured.p99_ms:.2f} times, "
            f"{1000 * extra_s / reloads:.0f} ms of the engine's CPU a reload",
            flush=True,
        )
    database.close()


@dataclass(frozen=True)
class Loaded:
    """What came of one load."""

    measured: Measurement
    answers: float
    engine_s: float  #: of CPU


@dataclass(frozen=True)
class Api:
    """What is asked."""

    process: int
    port: int
    given: argparse.Namespace

    def load(self, script: Path) -> Loaded:
        """Load it for a while."""
        engine = {"engine": [find_child(self.process, "api.engine_process")]}
        before = read_cpu(engine).parts["engine"]
        found = measure(self.port, "/predict", script, clients=self.given.clients, seconds=self.given.seconds)
        used_s = read_cpu(engine).parts["engine"] - before
        return Loaded(found, found.requests_per_s * self.given.seconds, used_s)


def wait_until_predicting(port: int, image: bytes, content_type: str) -> None:
    """Wait until the model is loaded: `/readyz` does not wait for it."""
    deadline = time.monotonic() + PATIENCE_S
    with httpx.Client(trust_env=False, timeout=PATIENCE_S) as client:
        while time.monotonic() < deadline:
            answer = client.post(
                f"http://127.0.0.1:{port}/predict", content=image, headers={"Content-Type": content_type}
            )
            if answer.status_code == 200:
                return
            time.sleep(0.2)
    raise TimeoutError("the model does not get ready")


def _tell(found: Measurement) -> str:
    return f"{found.requests_per_s:,.0f}/s, p50 {found.p50_ms:.1f}, p99 {found.p99_ms:.1f} ms, {found.errors} errors"


def measure_restarts(api: Api, image: bytes, content_type: str) -> None:
    """Kill the engine again and again, and print the answers by status.

    It is killed when it has run for so long that its supervisor starts it again at once.
    """
    over, statuses, longest_s = threading.Event(), collections.Counter[str](), [0.0]

    def load() -> None:
        while not over.is_set():
            with httpx.Client(trust_env=False, timeout=30) as client:
                began = time.monotonic()
                try:
                    answer = client.post(
                        f"http://127.0.0.1:{api.port}/predict", content=image, headers={"Content-Type": content_type}
                    )
                    statuses[str(answer.status_code)] += 1
                except httpx.HTTPError as exc:
                    statuses[type(exc).__name__] += 1
                longest_s[0] = max(longest_s[0], time.monotonic() - began)

    threads = [threading.Thread(target=load) for _ in range(CLIENTS_OF_RESTARTS)]
    for thread in threads:
        thread.start()
    for _ in range(api.given.restarts):
        time.sleep(STEADY_S + 1)
        before = statuses["200"]
        os.kill(find_child(api.process, "api.engine_process"), signal.SIGKILL)
        while statuses["200"] < before + 50:
            time.sleep(0.1)
    over.set()
    for thread in threads:
        thread.join()
    print(
        f"{api.given.restarts} times the engine was killed; answers: {dict(statuses)}, the longest took "
        f"{longest_s[0]:.1f} s",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--case", choices=sorted(CASES), default="small")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=int, default=12)
    parser.add_argument("--every-s", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--restarts", type=int, default=5, help=f"one every {STEADY_S + 2:.0f} s (default 5)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "material").mkdir()
        case = CASES[given.case]
        material = make_material(case, Path(folder) / "material")
        settings = Settings(data_dir=Path(folder) / "data", port=free_port())
        settings.data_dir.mkdir()
        job_id = plant(material.checkpoint, settings.data_dir)
        environment = os.environ | {"TRAINYARD_DATA_DIR": str(settings.data_dir), "TRAINYARD_PORT": str(settings.port)}
        process = subprocess.Popen([sys.executable, "-m", "api"], env=environment, stderr=subprocess.DEVNULL)
        try:
            wait_until_ready(settings.port, PATIENCE_S)
            wait_until_predicting(settings.port, material.image, case.content_type)
            script = write_script(Message({"Content-Type": case.content_type}, material.image), Path(folder))
            measure(settings.port, "/predict", script, clients=given.clients, seconds=2)
            api = Api(process.pid, settings.port, given)
            measure_reloads(api, script, settings, material.checkpoint, job_id)
            if given.restarts:
                measure_restarts(api, material.image, case.content_type)
        finally:
            process.terminate()
            process.wait(60)


if __name__ == "__main__":
    main()
