"""Measures a prediction over many images: images a second, and the memory of each process meanwhile.

    .venv/bin/python -m bench.predict_many [--images 1000000] [--recipe quick] [--px 32]

Starts a whole yard on a temporary folder, trains the recipe on digits for an epoch, writes a pack of noise, and
predicts it while a client reads the rows as they are stored. Then it downloads them as CSV and as Parquet. Prints a
line of JSON: seconds, images a second, bytes, and the highest proportional set size of each process in megabytes, by
the quarter of the run in which it was seen: all, and without what a file backs, such as the pack that is predicted. It
works only on Linux (`smaps_rollup`).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from alexnet_core.config import DatasetFacts
from alexnet_core.data.pack_draft import PackDraft
from bench.serving import wait_until_ready
from trainyard.client import Client
from trainyard.database.connection import Database, now
from trainyard.database.tables import LOCAL_OWNER, Dataset
from trainyard.launch.queue_server import free_port
from trainyard.settings import Settings
from trainyard.states import DatasetState

CLASSES = tuple("0123456789")
AT_ONCE = 10_000
LOOK_S = 1.0
_FIGURE = re.compile(r"^(\w+):\s+(\d+) kB", re.MULTILINE)
KINDS = ("predict-many", "table_process", "api.engine_process", "api.web_process", "worker", "api")


class Memory(threading.Thread):
    """Looks at the memory of all processes below one, again and again."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid, self._ended = pid, threading.Event()
        self.seen: dict[str, list[tuple[float, int, int]]] = defaultdict(list)

    def run(self) -> None:
        while not self._ended.wait(LOOK_S):
            for pid in _list_below(self._pid):
                try:
                    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
                    kind = next((kind for kind in KINDS if any(word.endswith(kind) for word in words[1:])), None)
                    if kind is not None:
                        figures = _read_memory(pid)
                        self.seen[kind].append((time.monotonic(), figures["Pss"], figures["Pss_Anon"]))
                except (OSError, KeyError):
                    continue

    def take(self) -> dict[str, dict[str, list[int]]]:
        """Return the peaks since the last call, by quarter: of all memory, and of what no file backs."""
        seen, self.seen = self.seen, defaultdict(list)
        peaks: dict[str, dict[str, list[int]]] = {}
        for kind, looks in seen.items():
            begin, length = looks[0][0], max(1e-9, looks[-1][0] - looks[0][0])
            quarters: dict[str, list[int]] = {"all": [0, 0, 0, 0], "anonymous": [0, 0, 0, 0]}
            for moment, *megabytes in looks:
                place = min(3, int(4 * (moment - begin) / length))
                for which, number in zip(quarters.values(), megabytes, strict=True):
                    which[place] = max(which[place], number)
            peaks[kind] = quarters
        return peaks

    def end(self) -> None:
        self._ended.set()
        self.join()


def _read_memory(pid: int) -> dict[str, int]:
    """Return megabytes by kind."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return {name: int(value) // 1024 for name, value in _FIGURE.findall(text)}


def _list_below(pid: int) -> list[int]:
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(word) for word in path.read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *_list_below(child)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--px", type=int, default=32, help="side of the images (default 32)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        environment = os.environ | {"TRAINYARD_DATA_DIR": folder, "TRAINYARD_PORT": str(port)}
        with (Path(folder) / "yard.log").open("wb") as log:
            yard = subprocess.Popen([sys.executable, "-m", "trainyard", "up"], env=environment, stdout=log, stderr=log)
        try:
            wait_until_ready(port)
            print(json.dumps(_measure(yard.pid, f"http://127.0.0.1:{port}", Path(folder), given)))
        finally:
            yard.terminate()
            yard.wait(60)


def _measure(pid: int, url: str, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    result: dict[str, Any] = {"images": given.images, "recipe": given.recipe, "load": os.getloadavg()[0]}
    with Client(url) as client:
        job = client.create_job("digits", recipe=given.recipe, overrides={"epochs": 1})
        assert client.wait(job["id"])["state"] == "succeeded"
        _add_dataset(folder, given.images, given.px)
        memory = Memory(pid)
        memory.start()
        began = time.monotonic()
        made = client.create_prediction(dataset="ds_noise")
        num_bytes, num_rows = _read(url, made["id"])
        took_s = time.monotonic() - began
        found = client.get_prediction(made["id"])
        assert (found["state"], num_rows) == ("succeeded", given.images), (found, num_rows)
        result |= {"seconds": round(took_s, 1), "images_per_s": round(given.images / took_s), "ndjson_bytes": num_bytes}
        result["memory_mb"] = memory.take()
        for kind in ("csv", "parquet"):
            began, target = time.monotonic(), folder / f"results.{kind}"
            client.download_results(made["id"], target, kind=kind)
            result[kind] = {"seconds": round(time.monotonic() - began, 1), "bytes": target.stat().st_size}
            result[kind]["memory_mb"] = memory.take()
        memory.end()
    return result


def _add_dataset(folder: Path, count: int, px: int) -> None:
    """Write a pack of noise where the yard has its packs, and register it as ready."""
    noise = np.random.default_rng(1)
    target = folder / "packs" / "ds_noise"
    with PackDraft(target, image_px=px, channels=3) as draft:
        for start in range(0, count, AT_ONCE):
            draft.append(noise.integers(0, 256, (min(AT_ONCE, count - start), px, px, 3), dtype=np.uint8))
        split = np.zeros(count, np.uint8)
        split[0:20], split[20:40] = 1, 2
        pack = draft.commit(
            name="noise",
            class_names=CLASSES,
            labels_N=np.arange(count) % len(CLASSES),
            split_N=split,
            flip_safe=True,
            report={},
            file_names=(f"noise/{number:07d}.png" for number in range(count)),
        )
    facts = DatasetFacts.model_validate(pack.facts.model_dump()).model_dump(mode="json")
    database = Database(Settings(data_dir=folder).sqlalchemy_url)
    with database.writing() as session:
        row = Dataset(id="ds_noise", owner=LOCAL_OWNER, name="noise", state=DatasetState.READY, facts=facts)
        row.digest, row.key, row.created_at, row.size_bytes = pack.digest, "packs/ds_noise", now(), 0
        session.add(row)
    database.close()


def _read(url: str, prediction_id: str) -> tuple[int, int]:
    """Read the rows while they come, and return their bytes and number."""
    num_bytes = num_rows = 0
    with (
        httpx.Client(base_url=url, timeout=httpx.Timeout(10, read=3600), trust_env=False) as http,
        http.stream("GET", f"/predictions/{prediction_id}/results") as answer,
    ):
        for piece in answer.iter_bytes():
            num_bytes += len(piece)
            num_rows += piece.count(b"\n")
    return num_bytes, num_rows


if __name__ == "__main__":
    main()
