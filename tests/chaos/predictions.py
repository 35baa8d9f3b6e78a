"""Predictions over many images in a storm, and what must be true of them at the end.

A client asks for a prediction of digits, or of an archive that it uploads, whenever fewer than two are open, and reads
the results of each while it is computed. Its connection breaks with the API, and it goes on behind the last row that it
has. Every image of a finished prediction must have exactly one row, in the order of the rows, and each row must be
the same to every reader.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from alexnet_core.data.pack import open_pack
from alexnet_core.layout import pack_key
from tests.chaos.datasets import IMAGES_A_CLASS, TUS, make_archive
from tests.chaos.yard import ChaosYard

MOST_OPEN = 2
LOOK_S = 0.5
PAUSE_S = 4.0  # between two that are asked for: the machine has other work in a storm
FINAL = frozenset({"succeeded", "failed", "cancelled"})


@dataclass
class Asked:
    """A prediction that the client asked for."""

    number: int
    prediction_id: str
    num_images: int
    rows: list[dict[str, Any]] = field(default_factory=list)  #: as they were streamed
    state: str = "queued"


class Predictions:
    """A client that asks for predictions while the storm goes on, and the verdict on them."""

    def __init__(self, yard: ChaosYard) -> None:
        self._yard = yard
        self._http = httpx.Client(base_url=yard.url, timeout=5, trust_env=False)
        self._ended, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="predictions", daemon=True)
        self._readers: list[threading.Thread] = []
        self.asked: list[Asked] = []
        self.cuts = self.doubles = 0
        self.broken: list[str] = []

    def start(self) -> None:
        self._thread.start()

    def ask_no_more(self) -> None:
        """Let those that were asked for be the last."""
        self._ended.set()

    def finish(self, within_s: float) -> None:
        """Ask for no more, and wait until each has ended and is read."""
        self.ask_no_more()
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline and (self._open() or any(it.is_alive() for it in self._readers)):
            self._yard.tick()
            time.sleep(LOOK_S)
        self._stopped.set()
        self._thread.join(timeout=10)

    def judge(self) -> list[str]:
        """List what is broken at the end."""
        for it in self.asked:
            if it.state != "succeeded":
                self.broken.append(f"predictions: {it.prediction_id} should have succeeded and is {it.state}")
                continue
            stored = self._read_all(it)
            self._check_rows(it, "stored", stored)
            self._check_rows(it, "streamed", it.rows)
            if it.rows != stored:
                self.broken.append(f"predictions: {it.prediction_id} was streamed otherwise than it is stored")
        return self.broken

    def _check_rows(self, it: Asked, what: str, rows: list[dict[str, Any]]) -> None:
        if [row["row"] for row in rows] != list(range(it.num_images)):
            self.broken.append(f"predictions: {it.prediction_id} has {len(rows)} rows {what} of {it.num_images}")
        places = {row["index"] if row["file"] is None else row["file"] for row in rows}
        if len(places) != it.num_images:
            self.broken.append(f"predictions: {it.prediction_id} has {len(places)} images {what} of {it.num_images}")

    # --- the client ---

    def _run(self) -> None:
        due = 0.0
        while not self._stopped.wait(LOOK_S):
            self._look()
            if not self._ended.is_set() and len(self._open()) < MOST_OPEN and time.monotonic() >= due:
                due = time.monotonic() + PAUSE_S
                self._ask()

    def _open(self) -> list[Asked]:
        return [it for it in list(self.asked) if it.state not in FINAL]

    def _look(self) -> None:
        for it in self._open():
            with contextlib.suppress(httpx.HTTPError):
                answer = self._http.get(f"/predictions/{it.prediction_id}")
                if answer.is_success:
                    it.state = answer.json()["state"]
                elif answer.status_code in {404, 500}:
                    self.broken.append(f"predictions: {it.prediction_id} answers {answer.text[:300]}")

    def _ask(self) -> None:
        number = len(self.asked)
        body, num_images = {"dataset": "digits"}, self._count_digits()
        if number % 3 == 2:
            upload_id = self._upload(number)
            if upload_id is None:
                return
            body, num_images = {"upload": upload_id}, 2 * IMAGES_A_CLASS
        if num_images == 0:
            return
        headers = {"Idempotency-Key": f"prediction-{number}"}
        found: set[str] = set()
        while not self._stopped.is_set():
            with contextlib.suppress(httpx.HTTPError):
                answer = self._http.post("/predictions", json=body, headers=headers)
                if answer.is_success:
                    found.add(answer.json()["id"])
                    if len(found) > 1 or answer.status_code == 200 or number % 2:
                        break
                elif answer.status_code == 503 and answer.json()["error"]["code"] == "no_checkpoint":
                    return  # nothing is trained yet
                elif answer.status_code < 500 or answer.status_code == 500:
                    self.broken.append(f"predictions: one was refused: {answer.text[:300]}")
                    return
            time.sleep(0.3)
        if not found:
            return
        self.doubles += len(found) - 1
        it = Asked(number, found.pop(), num_images)
        self.asked.append(it)
        self._readers.append(threading.Thread(target=self._read, args=(it,), daemon=True))
        self._readers[-1].start()

    def _count_digits(self) -> int:
        try:
            with self._yard.storage.materialise(pack_key("ds_digits")) as folder:
                return len(np.asarray(open_pack(folder).labels))
        except Exception:
            return 0  # it is prepared at the start

    def _upload(self, number: int) -> str | None:
        data = make_archive(10_000 + number, is_good=True)
        with contextlib.suppress(httpx.HTTPError):
            begun = self._http.post("/uploads", headers=TUS | {"Upload-Length": str(len(data))})
            if begun.is_success:
                headers = TUS | {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
                upload_id = str(begun.json()["id"])
                sent = self._http.patch(f"/uploads/{upload_id}", headers=headers, content=data)
                return upload_id if sent.is_success else None
        return None

    def _read(self, it: Asked) -> None:
        """Read the rows while they come. A stream that is cut goes on behind the last row."""
        with httpx.Client(base_url=self._yard.url, timeout=10, trust_env=False) as http:
            while not self._stopped.is_set():
                after = it.rows[-1]["row"] if it.rows else -1
                try:
                    if self._read_some(http, it, after):
                        return
                except (httpx.HTTPError, json.JSONDecodeError):
                    self.cuts += 1
                time.sleep(0.2)

    def _read_some(self, http: httpx.Client, it: Asked, after: int) -> bool:
        """Return whether the stream came to its end."""
        path, wanted = f"/predictions/{it.prediction_id}/results", {"after": after}
        with http.stream("GET", path, params=wanted) as answer:
            if not answer.is_success:
                return False
            for line in answer.iter_lines():
                it.rows.append(json.loads(line))
        return True

    def _read_all(self, it: Asked) -> list[dict[str, Any]]:
        for _ in range(20):
            with contextlib.suppress(httpx.HTTPError):
                answer = self._http.get(f"/predictions/{it.prediction_id}/results", timeout=30)
                if answer.is_success:
                    return [json.loads(line) for line in answer.text.splitlines()]
            self._yard.tick()
            time.sleep(0.5)
        return []
