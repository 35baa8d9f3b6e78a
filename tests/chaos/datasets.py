"""Datasets in a storm: uploads that are cut, validations under faults, and what must be true of them at the end.

A client uploads one small archive after another by the tus protocol. It breaks connections in mid-request, goes on at
the byte that the yard names, asks for a dataset, sometimes before the upload is complete, and repeats what was not
answered. Every third archive can't be trained on, and must be rejected.
"""

from __future__ import annotations

import base64
import contextlib
import io
import random
import socket
import threading
import time
import zipfile
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
from PIL import Image

from alexnet_core.data.pack import open_pack
from alexnet_core.layout import PACKS, UPLOADS, draft_prefix, pack_key
from tests.chaos.yard import ChaosYard
from trainyard.errors import StorageUnavailable

TUS = {"Tus-Resumable": "1.0.0"}
IMAGES_A_CLASS, SIDE_PX = 12, 24
PAUSE_S = 3.0  # between two uploads: the machine has other work in a storm
MOST_WAITING = 8  # datasets that are not settled: what is left at the end must be settled soon
SETTLED = frozenset({"ready", "rejected"})
GONE_WITHIN_S = 20.0  # until nothing is left of uploads and rejected datasets
PREPARED = f"{PACKS}/{draft_prefix('ds_digits')}"  # half-written packs of the built-in dataset


@dataclass
class Pushed:
    """A dataset that the client pushes."""

    number: int
    upload_id: str | None = None
    dataset_id: str | None = None
    is_good: bool = True


class Datasets:
    """A client that pushes datasets while the storm goes on, and the verdict on them."""

    def __init__(self, yard: ChaosYard, seed: int) -> None:
        self._yard, self._random = yard, random.Random(seed)
        self._http = httpx.Client(base_url=yard.url, timeout=5, trust_env=False)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="datasets", daemon=True)
        self.pushed: list[Pushed] = []
        self.cuts = self.doubles = 0
        self.broken: list[str] = []
        self._states: dict[str, str] = {}
        self._unchecked: dict[str, dict[str, Any]] = {}  #: those that were seen to be ready, and not looked at yet

    def start(self) -> None:
        self._thread.start()

    def push_no_more(self) -> None:
        """Let the one that is being pushed be the last."""
        self._ended.set()

    def finish(self, within_s: float) -> None:
        """Complete what was begun, and wait until every dataset is settled."""
        self.push_no_more()
        self._thread.join(timeout=within_s)
        deadline = time.monotonic() + within_s
        while (self._unsettled() or self._unchecked) and time.monotonic() < deadline:
            self._yard.tick()
            self.look()
            time.sleep(0.5)

    @property
    def ready(self) -> list[str]:
        """Ids of datasets that were seen to be ready."""
        return [dataset_id for dataset_id, state in self._states.items() if state == "ready"]

    @property
    def coming(self) -> list[str]:
        """Ids of datasets that were accepted and are not settled."""
        return [it.dataset_id for it in list(self.pushed) if it.dataset_id and it.is_good and not self._is_settled(it)]

    def look(self) -> None:
        """Look at all datasets: what is settled never changes, and what is ready can be looked at."""
        for row in self._list() or []:
            if row["builtin"]:
                continue
            before, now = self._states.get(row["id"]), row["state"]
            if before in SETTLED and now != before:
                self.broken.append(f"datasets: {row['id']} was {before} and is {now}")
            self._states[row["id"]] = now
            if now == "ready" and before != "ready":
                self._unchecked[row["id"]] = row
        for dataset_id, row in list(self._unchecked.items()):
            with contextlib.suppress(StorageUnavailable):  # then at the next look
                self._check_ready(row)
                del self._unchecked[dataset_id]

    def judge(self) -> list[str]:
        """List what is broken at the end, when all is settled."""
        for it in self.pushed:
            if it.dataset_id is None:
                continue
            wanted, state = "ready" if it.is_good else "rejected", self._states.get(it.dataset_id, "nowhere")
            if state != wanted:
                self.broken.append(f"datasets: {it.dataset_id} should be {wanted} and is {state}")
        self.broken += [f"datasets: the pack of {dataset_id} could not be looked at" for dataset_id in self._unchecked]
        self._check_folders()
        return self.broken

    # --- the client ---

    def _run(self) -> None:
        while not self._ended.is_set():
            it = Pushed(len(self.pushed), is_good=len(self.pushed) % 3 != 2)
            self.pushed.append(it)
            data = make_archive(it.number, it.is_good)
            early = self._random.random() < 0.3
            it.upload_id = self._until_answered(lambda data=data: self._begin(len(data)))
            if early and it.upload_id:
                it.dataset_id = self._until_answered(lambda it=it: self._ask_for_dataset(it))
            while it.upload_id and not self._send_some(it.upload_id, data):
                time.sleep(0.2)
            if it.upload_id and it.dataset_id is None:
                it.dataset_id = self._until_answered(lambda it=it: self._ask_for_dataset(it))
            self._repeat(it)
            self._ended.wait(PAUSE_S)
            while len(self._unsettled()) > MOST_WAITING and not self._ended.wait(PAUSE_S):
                pass

    def _until_answered(self, ask: Any) -> str | None:
        """Ask until there is an answer; None: it was refused for good."""
        while True:
            with contextlib.suppress(httpx.HTTPError):
                answer: httpx.Response = ask()
                if answer.is_success:
                    return str(answer.json()["id"])
                if answer.status_code == 500 or (answer.status_code < 500 and answer.status_code not in {409, 423}):
                    self.broken.append(f"datasets: {answer.request.url} was refused: {answer.text[:300]}")
                    return None
            time.sleep(0.3)

    def _begin(self, size: int) -> httpx.Response:
        name = base64.b64encode(b"shapes.zip").decode()
        return self._http.post(
            "/uploads", headers=TUS | {"Upload-Length": str(size), "Upload-Metadata": f"filename {name}"}
        )

    def _ask_for_dataset(self, it: Pushed) -> httpx.Response:
        body = {"name": f"shapes-{it.number}", "upload": it.upload_id}
        return self._http.post("/datasets", json=body, headers={"Idempotency-Key": f"dataset-{it.number}"})

    def _send_some(self, upload_id: str, data: bytes) -> bool:
        """Send a part of an upload, or break off while sending; returns whether all has arrived."""
        try:
            head = self._http.head(f"/uploads/{upload_id}", headers=TUS)
            if head.status_code == 404:
                return True  # the dataset that was asked for early has used it
            if not head.is_success:
                return False
            offset = int(head.headers["Upload-Offset"])
            if offset == len(data):
                return True
            if self._random.random() < 0.4:
                self._break_off(upload_id, data, offset)
                return False
            end = len(data) if self._random.random() < 0.5 else self._random.randint(offset + 1, len(data))
            headers = TUS | {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
            self._http.patch(f"/uploads/{upload_id}", headers=headers, content=data[offset:end])
        except httpx.HTTPError:
            pass
        return False

    def _break_off(self, upload_id: str, data: bytes, offset: int) -> None:
        """Announce the rest, send some of it, and close the connection."""
        address = urlsplit(self._yard.url)
        rest = data[offset:]
        head = (
            f"PATCH /uploads/{upload_id} HTTP/1.1\r\nHost: {address.netloc}\r\nTus-Resumable: 1.0.0\r\n"
            f"Upload-Offset: {offset}\r\nContent-Type: application/offset+octet-stream\r\n"
            f"Content-Length: {len(rest)}\r\n\r\n"
        )
        with contextlib.suppress(OSError), socket.create_connection((address.hostname, address.port), 3) as line:
            line.sendall(head.encode() + rest[: self._random.randint(0, len(rest) - 1)])
            time.sleep(self._random.uniform(0, 0.2))
            self.cuts += 1

    def _repeat(self, it: Pushed) -> None:
        if it.dataset_id is None:
            return
        with contextlib.suppress(httpx.HTTPError):
            answer = self._ask_for_dataset(it)
            if answer.is_success:
                self.doubles += answer.json()["id"] != it.dataset_id

    # --- the verdict ---

    def _list(self) -> list[dict[str, Any]] | None:
        rows: list[dict[str, Any]] = []
        wanted: dict[str, str] = {"limit": "100"}
        try:
            while True:
                answer = self._http.get("/datasets", params=wanted)
                if not answer.is_success:
                    return None
                page = answer.json()
                rows += page["data"]
                if not page["has_more"]:
                    return rows
                wanted["after"] = page["last_id"]
        except httpx.HTTPError:
            return None

    def _is_settled(self, it: Pushed) -> bool:
        return self._states.get(it.dataset_id or "") in SETTLED

    def _unsettled(self) -> list[Pushed]:
        return [it for it in list(self.pushed) if it.dataset_id and not self._is_settled(it)]

    def _check_ready(self, row: dict[str, Any]) -> None:
        """A dataset that is said to be ready is whole: the sum over its files is the digest."""
        try:
            with self._yard.storage.materialise(pack_key(row["id"]), fresh=True) as folder:
                pack = open_pack(folder)
                pack.verify()
        except StorageUnavailable:
            raise
        except Exception as exc:
            self.broken.append(f"datasets: {row['id']} is ready, and its pack is not whole: {exc}")
            return
        if pack.digest != row["digest"] or row["num_train"] + row["num_val"] + row["num_test"] != 2 * IMAGES_A_CLASS:
            self.broken.append(f"datasets: {row['id']} is ready with another content")

    def _check_folders(self) -> None:
        """Nothing is left of what was uploaded, and later nothing of what was prepared, which no lease protects."""
        began = time.monotonic()
        while left := self._find_leftovers():
            prepared = all(name.startswith(PREPARED) for name in left)
            waits_s = GONE_WITHIN_S + (self._yard.settings.leftover_s if prepared else 0)
            if time.monotonic() > began + waits_s:
                break
            self._yard.tick()
            time.sleep(0.5)
        self.broken += [f"datasets: {name} is left" for name in left]

    def _find_leftovers(self) -> list[str]:
        kept = {"ds_digits", *self.ready}
        try:
            packs, uploads = self._yard.list_folders(PACKS), self._yard.list_folders(UPLOADS)
        except StorageUnavailable:
            return ["the store, which does not answer,"]
        uploads |= {path.name for path in (self._yard.machine("api") / UPLOADS).iterdir() if path.is_dir()}
        used = {it.upload_id for it in self.pushed if it.dataset_id}
        return [f"packs/{name}" for name in sorted(packs - kept)] + [
            f"uploads/{name}" for name in sorted(uploads & {str(name) for name in used})
        ]


def make_archive(number: int, is_good: bool) -> bytes:
    """Make a zip of two classes of images, or of one. No two are alike."""
    noise = np.random.default_rng(number)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for label in ("dark", "light") if is_good else ("dark",):
            for index in range(IMAGES_A_CLASS):
                pixels = noise.integers(0, 100, (SIDE_PX, SIDE_PX, 3)) + (100 if label == "light" else 0)
                image = io.BytesIO()
                Image.fromarray(pixels.astype(np.uint8)).save(image, "PNG")
                archive.writestr(f"{label}/{index}.png", image.getvalue())
    return file.getvalue()
