"""Measures what the processes of a yard hold over time under mixed load: resident megabytes, threads, open files.

    .venv/bin/python -m bench.memory_over_time [--minutes 20] [--clients 4] [--pause-ms 20] [--every-s 15]

Starts a yard on a temporary folder, trains `digits` once, waits, and prints the memory at rest. Then clients request
everything that an API answers: predictions of PNG and JPEG files, alone and many in one request, also of damaged ones;
jobs, events, metrics, curves, logs, datasets, recipes, workers, downloads, 404s, the OpenAPI document. Every few
seconds it prints a line: minutes, a triple for each process, and answers so far; at the end, how many megabytes an hour
each process gained, by a straight line through the second half. It works only on Linux (`smaps_rollup`).
"""

from __future__ import annotations

import argparse
import io
import random
import re
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from trainyard.client import Client
from trainyard.launch.yard import Yard
from trainyard.settings import Settings

REST_S = 20.0
_RESIDENT = re.compile(r"^Rss:\s+(\d+) kB", re.MULTILINE)


class Watch:
    """The processes of a yard, as they are when it is made, and what each held at every look."""

    def __init__(self, yard: Yard) -> None:
        pids = [child.process.pid for child in yard.children if child.process is not None]
        for pid in pids:
            pids.extend(it for it in children_of(pid) if it not in pids)
        self._names: dict[int, str] = {}
        for pid in pids:
            name = _name_of(pid)
            taken = sum(other.split("-")[0] == name for other in self._names.values())
            self._names[pid] = f"{name}-{taken + 1}" if taken else name
        self._seen: dict[str, list[tuple[float, float]]] = {name: [] for name in self._names.values()}

    def look(self, minutes: float) -> dict[str, tuple[int, int, int]]:
        """Return resident megabytes, threads and open files of each process, and remember the first."""
        found = {}
        for pid, name in self._names.items():
            folder = Path(f"/proc/{pid}")
            match = _RESIDENT.search((folder / "smaps_rollup").read_text())
            assert match is not None
            resident_mb = int(match[1]) / 1024
            self._seen[name].append((minutes, resident_mb))
            found[name] = (round(resident_mb), _count(folder / "task"), _count(folder / "fd"))
        return found

    def gains(self) -> dict[str, float]:
        """Return the megabytes an hour that each process gained in the second half of the looks."""
        gained = {}
        for name, looks in self._seen.items():
            minutes, resident_mb = np.array(looks[len(looks) // 2 :]).T
            gained[name] = round(60 * float(np.polyfit(minutes, resident_mb, 1)[0]), 2) if len(minutes) > 1 else 0.0
        return gained


def children_of(parent: int) -> list[int]:
    """Return the processes that a process has started and that still run."""
    return [int(pid) for file in Path(f"/proc/{parent}/task").glob("*/children") for pid in file.read_text().split()]


def _name_of(pid: int) -> str:
    """Return the module that a process of Python runs, or the program's name."""
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return words[words.index("-m") + 1] if "-m" in words else Path(words[0]).name.split()[0]


def _count(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir())


def encode(side: int, file_format: str, draw: np.random.Generator) -> bytes:
    """Return a file of random pixels that compress fairly well."""
    buffer = io.BytesIO()
    coarse = draw.integers(0, 256, (max(1, side // 16), max(1, side // 16), 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((side, side)).save(buffer, file_format)
    return buffer.getvalue()


class Load:
    """Clients of one yard, each with a connection of its own."""

    def __init__(self, url: str, job_id: str, pause_s: float) -> None:
        self._url, self._job_id, self._pause_s = url, job_id, pause_s
        self._ended = threading.Event()
        self.answers = 0
        self.statuses: dict[int, int] = {}
        draw = np.random.default_rng(0)
        self._small, self._photo = encode(32, "PNG", draw), encode(500, "JPEG", draw)

    def run(self, seed: int) -> None:
        """Run one client until the end."""
        chance = random.Random(seed)
        with httpx.Client(base_url=self._url, timeout=60, trust_env=False) as http:
            asks = self._asks(http, chance)
            while not self._ended.is_set():
                try:
                    status = chance.choice(asks)().status_code
                except httpx.HTTPError:
                    status = 0
                self.answers += 1
                self.statuses[status] = self.statuses.get(status, 0) + 1
                time.sleep(self._pause_s)

    def end(self) -> None:
        """Stop all clients."""
        self._ended.set()

    def _asks(self, http: httpx.Client, chance: random.Random) -> list[Callable[[], httpx.Response]]:
        job = f"/jobs/{self._job_id}"
        many = [("file", (f"{number}.png", self._small)) for number in range(16)]
        png, jpeg = {"Content-Type": "image/png"}, {"Content-Type": "image/jpeg"}
        reads = ["/jobs", job, f"{job}/events", f"{job}/metrics", f"{job}/logs", f"{job}/checkpoints", "/datasets"]
        reads += ["/recipes", "/recipes/quick", "/workers", "/queue", "/healthz", "/readyz", "/jobs/job_0", "/no"]
        asks: list[Callable[[], httpx.Response]] = [
            *(8 * [lambda: http.post("/predict", content=self._small, headers=png)]),
            *(4 * [lambda: http.post("/predict", content=self._photo, headers=jpeg)]),
            *(2 * [lambda: http.post("/predict", files=many)]),
            lambda: http.post("/predict", content=self._photo[: chance.randrange(20_000)], headers=jpeg),
            lambda: http.post("/predict", files={"file": ("a.jpg", self._photo)}),
            lambda: http.get(f"{job}/curves.png"),
            lambda: http.get("/openapi.json"),
            lambda: http.post("/jobs", json={"dataset": "nothing"}),
        ]
        return asks + [lambda path=path: http.get(path) for path in reads]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--pause-ms", type=float, default=20)
    parser.add_argument("--every-s", type=float, default=15)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder), port=0, host="127.0.0.1", redis_url=None, database_url=None)
        with Yard(settings) as yard, Client(yard.url) as client:
            job = client.create_job("digits", overrides={"epochs": 2})
            assert client.wait(job["id"])["state"] == "succeeded"
            time.sleep(REST_S)
            watch = Watch(yard)
            print(f"at rest: {Watch(yard).look(0)}", flush=True)
            load = Load(yard.url, job["id"], arguments.pause_ms / 1000)
            threads = [threading.Thread(target=load.run, args=(seed,)) for seed in range(arguments.clients)]
            for thread in threads:
                thread.start()
            began = time.monotonic()
            while (minutes := (time.monotonic() - began) / 60) < arguments.minutes:
                print(f"{minutes:5.1f} {watch.look(minutes)} {load.answers}", flush=True)
                time.sleep(arguments.every_s)
            load.end()
            for thread in threads:
                thread.join()
            print(f"MB gained an hour, second half: {watch.gains()}", flush=True)
            time.sleep(REST_S)
            print(f"at rest again: {Watch(yard).look(0)}; answers by status: {load.statuses}", flush=True)


if __name__ == "__main__":
    main()
