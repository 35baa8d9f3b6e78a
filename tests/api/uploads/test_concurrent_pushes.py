"""Two pushes of one folder at the same time, each with the client and over a connection of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.api.served import Served
from trainyard.client.folder_archive import FolderArchive
from trainyard.client.synchronous import uploading

MIB = 1 << 20


class SlowFolder(FolderArchive):
    """A folder whose bytes come slowly, as from a slow line."""

    def read_from(self, offset: int) -> Iterator[bytes]:
        for piece in super().read_from(offset):
            for start in range(0, len(piece), MIB // 8):
                yield piece[start : start + MIB // 8]
                time.sleep(0.02)


class Push(threading.Thread):
    def __init__(self, served: Served, folder: Path) -> None:
        super().__init__()
        self.url, self.folder = str(served.http.base_url), folder
        self.waits: list[float] = []
        self.sent: list[int] = []
        self.upload_id, self.dataset_id = "", ""
        self.has_begun = threading.Event()

    def run(self) -> None:
        with httpx.Client(base_url=self.url, timeout=30, trust_env=False) as http:
            self.upload_id = uploading.upload(
                http, SlowFolder(self.folder), on_sent=self.note, patience_s=30, sleep=self.wait
            )
            made = http.post("/datasets", json={"name": "pictures", "upload": self.upload_id})
            self.dataset_id = made.json()["id"]

    def note(self, sent: int, total: int) -> None:
        self.sent.append(sent)
        if sent > MIB:
            self.has_begun.set()

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        time.sleep(seconds / 10)


def test_two_pushes_of_one_folder_do_not_disturb_each_other(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploading, "PIECE_BYTES", 64 * MIB)
    for number in range(4):
        (tmp_path / "pictures" / "cats").mkdir(parents=True, exist_ok=True)
        (tmp_path / "pictures" / "cats" / f"{number}.png").write_bytes(bytes([number]) * 7 * MIB)
    first, second = Push(served, tmp_path / "pictures"), Push(served, tmp_path / "pictures")
    first.start()
    assert first.has_begun.wait(20)
    second.start()
    for push in (first, second):
        push.join(60)
    assert first.waits == second.waits == [], "none was interrupted"
    assert first.sent == sorted(first.sent)
    assert second.sent == sorted(second.sent)
    assert first.upload_id != second.upload_id
    assert first.dataset_id == second.dataset_id != ""
