"""What wrk prints, and what is made of it."""

import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bench.serving_peers.load import Measurement, measure, read_output, write_script
from bench.serving_peers.messages import Message

PRINTED = """Running 2s test @ http://127.0.0.1:8000/predict
  1 threads and 16 connections
Requests/sec:    123.40
measured:{"seconds":2.000000,"answers":250,"refused":50,"lost":2,"late":1,"p50_ms":12.500,"p99_ms":80.250}
"""


def test_answers_that_are_refusals_count_as_errors_and_not_as_requests() -> None:
    assert read_output(PRINTED) == Measurement(requests_per_s=100.0, p50_ms=12.5, p99_ms=80.25, errors=53)


def test_output_without_the_line_is_no_measurement() -> None:
    with pytest.raises(RuntimeError, match="printed no line"):
        read_output("Running 2s test\nunable to create thread\n")


class Moody(BaseHTTPRequestHandler):
    """Answers every other request with 503, and those that are not as they were built with 400."""

    protocol_version = "HTTP/1.1"
    asked = 0

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).asked += 1
        right = (body, self.headers["X-Quoted"]) == (b'\x00"\n\xff', 'a "b" \\c')
        self.send_response((200 if self.asked % 2 else 503) if right else 400)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Moody)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_wrk_sends_the_message_as_it_is_and_half_of_the_answers_are_refusals(port: int, tmp_path: Path) -> None:
    script = write_script(Message({"X-Quoted": 'a "b" \\c'}, b'\x00"\n\xff'), tmp_path)
    measured = measure(port, "/", script, clients=1, seconds=1)
    assert measured.requests_per_s > 10
    assert measured.errors == pytest.approx(measured.requests_per_s, rel=0.2, abs=2)
    assert 0 < measured.p50_ms <= measured.p99_ms < 1000


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_a_server_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    script = write_script(Message({}, b"x"), tmp_path)
    with pytest.raises(RuntimeError, match="wrk ended with"):
        measure(1, "/", script, clients=1, seconds=1)
