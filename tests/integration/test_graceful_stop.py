"""An API process that is told to end while it serves answers every request that it has begun to read."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import func, select

from tests.integration.fleet import make_tables, wait_for
from tests.integration.running import PATIENCE_S
from trainyard.database.connection import Database
from trainyard.database.tables import Job
from trainyard.launch.queue_server import free_port
from trainyard.settings import Settings, child_environment

NUM_POSTS = 8


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, port=free_port())


@pytest.fixture
def api(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """An API without queue and workers."""
    command = [sys.executable, "-m", "api", "--die-with-parent", str(os.getpid())]
    make_tables(settings)
    with (settings.data_dir / "api.log").open("wb") as log:
        process = subprocess.Popen(command, env=child_environment(settings), stdout=log, stderr=log)
    wait_for(lambda: _is_listening(settings.port) or process.poll() is not None)
    yield process
    process.kill()
    process.wait()


def test_what_was_begun_before_sigterm_is_answered_and_the_process_ends(
    api: subprocess.Popen[bytes], settings: Settings
) -> None:
    posts = [
        _Request(settings.port, "/jobs", "application/json", json.dumps({"dataset": "digits", "seed": seed}).encode())
        for seed in range(NUM_POSTS)
    ]
    picture = _Request(settings.port, "/predict", "image/png", _png())
    api.send_signal(signal.SIGTERM)
    wait_for(lambda: not _is_listening(settings.port))
    answers = [request.end() for request in posts]
    assert [status for status, _ in answers] == [202] * NUM_POSTS
    status, refusal = picture.end()
    assert (status, refusal["error"]["code"]) == (503, "no_checkpoint")  # nothing was trained; that is an answer
    assert api.wait(PATIENCE_S) == -signal.SIGTERM  # uvicorn raises it again once everything is down
    database = Database(settings.sqlalchemy_url)
    with database.reading() as session:
        assert set(session.scalars(select(Job.id))) == {job["id"] for _, job in answers}
        assert session.scalar(select(func.count()).select_from(Job)) == NUM_POSTS
    database.close()


class _Request:
    """A POST that the server has begun to read, and whose body's last byte is held back."""

    def __init__(self, port: int, path: str, content_type: str, body: bytes) -> None:
        self._connection, self._last = socket.create_connection(("127.0.0.1", port), timeout=60), body[-1:]
        head = f"POST {path} HTTP/1.1\r\nHost: [::1]\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        self._connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert self._connection.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"  # it reads the body now
        self._connection.sendall(body[:-1])

    def end(self) -> tuple[int, dict[str, Any]]:
        with self._connection:
            self._connection.sendall(self._last)
            answer = b"".join(iter(lambda: self._connection.recv(1 << 16), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body)


def _png() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (28, 28)).save(buffer, "PNG")
    return buffer.getvalue()


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
