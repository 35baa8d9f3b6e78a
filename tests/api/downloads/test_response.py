from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

from fastapi import FastAPI

from api.downloads.response import ArchiveResponse
from tests.api.conftest import Serve
from tests.api.served import wait_until


class Endless:
    """An archive that says when its files were let go."""

    size_bytes = 1 << 40
    etag = None
    sha256 = None

    def __init__(self) -> None:
        self.closed = 0
        self.loops: list[object] = []

    def pieces(self) -> Iterator[bytes]:
        while True:
            time.sleep(0.001)
            yield bytes(65536)

    def close(self) -> None:
        self.closed += 1
        self.loops.append(asyncio._get_running_loop())


def test_the_files_are_let_go_where_the_client_leaves_or_wants_the_headers_alone(serve: Serve) -> None:
    archive = Endless()

    def add_route(app: FastAPI) -> None:
        @app.get("/archive")
        def get_archive() -> ArchiveResponse:
            return ArchiveResponse(archive, "it.tar", {"X-Own": "1"})

    served = serve(add_route)
    head = served.http.head("/archive")
    assert head.headers["content-disposition"] == 'attachment; filename="it.tar"'
    assert (head.headers["content-length"], head.headers["x-own"]) == (str(1 << 40), "1")
    wait_until(lambda: archive.closed == 1)
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as client:
        client.sendall(b"GET /archive HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
    wait_until(lambda: archive.closed == 2)
    assert archive.loops == [None, None], "others wait while files are let go"
