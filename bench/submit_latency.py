"""Measures `POST /jobs` while the queue server is frozen, and while it answers.

    .venv/bin/python -m bench.submit_latency [--posts 400] [--clients 8] [--rounds 3]

Starts a queue server and an API on a temporary SQLite folder, without a worker. Each client posts jobs over its own
connection, as fast as they are answered. In every round the queue server first runs and is then stopped by SIGSTOP.
After that it is continued, and the round ends when every waiting message has been sent. Prints milliseconds: median,
99th percentile and worst.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import statistics
import tempfile
import threading
import time
from pathlib import Path

from sqlalchemy import func, select

from bench.serving import serving_api
from trainyard.database.connection import Database
from trainyard.database.tables import Job, Outbox
from trainyard.launch.queue_server import QueueServer

BODY = json.dumps({"dataset": "digits", "recipe": "quick"})
RUNG_WITHIN_S = 120.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=int, default=400, help="jobs a round, all clients together (default 400)")
    parser.add_argument("--clients", type=int, default=8, help="connections that post at once (default 8)")
    parser.add_argument("--rounds", type=int, default=3, help="of each, taking turns (default 3)")
    given = parser.parse_args()
    took: dict[str, list[float]] = {"alive": [], "frozen": []}
    with tempfile.TemporaryDirectory() as folder:
        queue = QueueServer(Path(folder))
        server = queue.start()
        queue.wait_until_it_answers()
        try:
            with serving_api(redis_url=queue.url) as (_, port, database):
                _post_all(port, 4 * given.clients, given.clients)  # what is made at the first use is made
                for _ in range(given.rounds):
                    took["alive"] += _post_all(port, given.posts, given.clients)
                    _wait_until_rung(database)
                    os.kill(server.pid, signal.SIGSTOP)
                    took["frozen"] += _post_all(port, given.posts, given.clients)
                    os.kill(server.pid, signal.SIGCONT)
                    _wait_until_rung(database)
                made = _count(database, Job)
        finally:
            os.kill(server.pid, signal.SIGCONT)
            server.terminate()
            server.wait(30)
    print(f"{given.clients} clients, {made} jobs made, workers were woken for every one")
    for name, waits in took.items():
        cuts = statistics.quantiles(waits, n=100)
        print(
            f"queue {name:6} {len(waits):5} posts  p50 {cuts[49]:6.1f}  p99 {cuts[98]:6.1f}  worst {max(waits):6.1f} ms"
        )


def _post_all(port: int, posts: int, clients: int) -> list[float]:
    took: list[float] = []
    threads = [threading.Thread(target=_post, args=(port, posts // clients, took)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(took) == posts // clients * clients, "a post was not answered with 202"
    return took


def _post(port: int, count: int, took: list[float]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for _ in range(count):
        began = time.perf_counter()
        connection.request("POST", "/jobs", BODY, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 202, answer.status
        took.append(1000 * (time.perf_counter() - began))


def _wait_until_rung(database: Database) -> None:
    deadline = time.monotonic() + RUNG_WITHIN_S
    while _count(database, Outbox):
        if time.monotonic() > deadline:
            raise TimeoutError("the queue answers, but words for it still wait")
        time.sleep(0.2)


def _count(database: Database, table: type[Job] | type[Outbox]) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


if __name__ == "__main__":
    main()
