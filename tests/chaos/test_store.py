"""The gate before a store does what its mode says. The store itself is tested in `tests/integration`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from tests.chaos.store import SLOW_S, Gate, Mode


class Hello(BaseHTTPRequestHandler):
    """Answers, and keeps the connection."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def gate() -> Iterator[Gate]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hello) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        gate = Gate(server.server_port)
        yield gate
        gate.close()
        server.shutdown()


def test_a_gate_passes_on_refuses_answers_503_and_delays(gate: Gate) -> None:
    body = b"x" * 200_000
    with httpx.Client(base_url=gate.url, trust_env=False, timeout=5) as http:

        def put() -> httpx.Response:
            return http.put("/object", content=body)

        assert put().text == "hello"
        gate.set(Mode.REFUSING)
        with pytest.raises(httpx.TransportError):  # the kept connection was cut
            put()
        with pytest.raises(httpx.ConnectError):
            put()
        gate.set(Mode.BUSY)
        assert [put().status_code, put().status_code] == [503, 503]
        gate.set(Mode.SLOW)
        began = time.monotonic()
        assert put().text == "hello"
        assert time.monotonic() - began > SLOW_S
        gate.set(Mode.OPEN)
    with httpx.Client(base_url=gate.url, trust_env=False, timeout=5) as http:
        began = time.monotonic()
        assert http.put("/object", content=body).text == "hello"
        assert time.monotonic() - began < SLOW_S
