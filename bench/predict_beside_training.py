"""Measures predictions while a job of the same machine trains, and while none does, and what the job loses to them.

    .venv/bin/python -m bench.predict_beside_training [--recipe notes-cifar10] [--rounds 3] [--per-s 50]

Starts a whole yard, trains `quick` on digits for an epoch, and offers predictions of that network at a steady rate, so
that the checkpoints of the job beside it change nothing about what is computed. Each round measures once with an idle
worker and once beside the job, in turns with the job alone. Prints milliseconds of `/predict`, the job's images a
second, and the ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from bench.overload import ask, build_request
from bench.predict_beside_validation import print_beside
from bench.serving import predicting_api
from trainyard.client import Client

LOAD_S = 8.0
EPOCHS = 1000  #: more than are trained before the job is cancelled
SETTLE_S = 3.0  #: until the newest report of the job is about the load that is measured
PATIENCE_S = 120.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="notes-cifar10", help="of the job (default notes-cifar10)")
    parser.add_argument("--rounds", type=int, default=3, help="(default 3)")
    parser.add_argument("--per-s", type=float, default=50, help="predictions that are offered a second (default 50)")
    given = parser.parse_args()
    idle: list[float] = []
    beside: list[float] = []
    alone_per_s: list[float] = []
    shared_per_s: list[float] = []
    with predicting_api() as (_, port), Client(f"http://127.0.0.1:{port}") as client:
        model = next(iter(client.iter_jobs()))["id"]
        request = build_request().replace(b"/predict", f"/predict?model={model}".encode(), 1)

        def predict(seconds: float) -> list[float]:
            return ask(port, request, seconds, clients=8, per_s=given.per_s).good_ms

        predict(3)  # what is made at the first use is made
        for _ in range(given.rounds):
            idle += predict(LOAD_S)
            job = client.create_job("digits", recipe=given.recipe, overrides={"epochs": EPOCHS})
            _wait_until_training(client, job["id"])
            time.sleep(SETTLE_S)
            alone_per_s += _speeds(client, job["id"], lambda: time.sleep(1))
            predict(SETTLE_S)
            shared_per_s += _speeds(client, job["id"], lambda: beside.extend(predict(1)))
            client.cancel_job(job["id"])
            client.wait(job["id"])
    print_beside(idle, beside, "beside a job")
    alone, shared = statistics.median(alone_per_s), statistics.median(shared_per_s)
    print(f"{given.recipe}: {alone:.0f} images/s alone, {shared:.0f} beside predictions ({shared / alone:.0%})")


def _speeds(client: Client, job_id: str, work: Callable[[], object]) -> list[float]:
    """Do something again and again for as long as a load is measured; return the job's speed after each time."""
    over, found = time.monotonic() + LOAD_S, []
    while time.monotonic() < over:
        work()
        if (speed := _speed(client, job_id)) is not None:
            found.append(speed)
    return found


def _speed(client: Client, job_id: str) -> float | None:
    speed: float | None = client.get_job(job_id)["progress"]["images_per_s"]
    return speed


def _wait_until_training(client: Client, job_id: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while _speed(client, job_id) is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)


if __name__ == "__main__":
    main()
