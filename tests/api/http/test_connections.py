"""What a client may send, hold and wait for, on real sockets."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr
from uvicorn.server import ServerState

from api.http.admission import Admission, Ticket
from api.http.connections import MAX_ADDRESS_BYTES, MAX_HEAD_BYTES, MAX_HEADERS, PARTING_BYTES, Connection
from tests.api.served import Served, error_of, png, wait_until

Serve = Callable[..., Served]
MIB = 1024 * 1024
CLOSED = b"(closed)"
POST = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"


@contextmanager
def connected(served: Served) -> Iterator[socket.socket]:
    with closing(socket.create_connection(("127.0.0.1", served.port), timeout=10)) as client:
        yield client


def answer_of(client: socket.socket, *, may_be_reset: bool = True) -> httpx.Response:
    """All that comes until the server closes, as one response."""
    data = b""
    with suppress(*([ConnectionResetError] if may_be_reset else [])):
        while piece := client.recv(65536):
            data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines[1:])]
    return httpx.Response(int(lines[0].split()[1]), headers=headers, content=body)


def send_much(client: socket.socket, first: bytes, piece: bytes, most_bytes: int) -> int:
    """Send until the other side closes; how much it took."""
    client.sendall(first)
    sent = len(first)
    with suppress(ConnectionError):
        while sent < most_bytes:
            sent += client.send(piece)
    return sent


class FakeTransport(asyncio.Transport):
    """Keeps what is written to it."""

    def __init__(self, sent: list[bytes]) -> None:
        super().__init__()
        self._sent = sent

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._sent.append(bytes(data))

    def is_closing(self) -> bool:
        return CLOSED in self._sent

    def close(self) -> None:
        self._sent.append(CLOSED)

    abort = close

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


@contextmanager
def made_of(served: Served) -> Iterator[tuple[Connection, list[bytes]]]:
    """A connection of the server's kind without a network, and what is sent over it; `CLOSED` at its end."""
    sent: list[bytes] = []
    loop = asyncio.new_event_loop()
    config = uvicorn.Config(served.app, log_config=None)
    connection = Connection(config, ServerState(), {}, loop, door=served.door)
    connection.connection_made(FakeTransport(sent))
    yield connection, sent
    connection.connection_lost(None)
    loop.close()


@pytest.mark.parametrize(
    ("first", "piece", "status", "code"),
    [
        (b"GET /healthz HTTP/1.1\r\nX-Long: ", b"a" * 8192, 431, "headers_too_large"),
        (b"GET /healthz HTTP/1.1\r\n", b"X-Large: " + b"a" * 800 + b"\r\n", 431, "headers_too_large"),
        (b"GET /healthz?", b"a" * 8192, 414, "url_too_long"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1;", b"a" * 8192, 431, "headers_too_large"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nTrailer: ", b"a" * 8192, 431, "headers_too_large"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"Trailer: a\r\n" * 100, 431, "headers_too_large"),
    ],
    ids=["header", "headers", "address", "chunk-extension", "trailer", "trailers"],
)  # fmt: skip
def test_an_endless_head_is_refused_soon(served: Served, first: bytes, piece: bytes, status: int, code: str) -> None:
    with connected(served) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        sent = send_much(client, first, piece, 64 * 1024 * 1024)
        error_of(answer_of(client), status, code)
    assert sent < 8 * 1024 * 1024  # what the kernel's buffers took; the server read no more than the bound


def test_heads_up_to_the_bounds_pass(served: Served) -> None:
    assert served.http.get("/healthz?" + "a" * (MAX_ADDRESS_BYTES - 100)).status_code == 200
    assert served.http.get("/healthz", headers={"X-Long": "a" * (MAX_HEAD_BYTES - 1000)}).status_code == 200
    few = {f"X-{number}": "a" for number in range(MAX_HEADERS - 10)}
    assert served.http.get("/healthz", headers=few).status_code == 200
    many = {f"X-{number}": "a" for number in range(MAX_HEADERS + 1)}
    error_of(served.http.get("/healthz", headers=many), 431, "headers_too_large")


@pytest.mark.parametrize(
    "rubbish",
    [b"\x00\x01\r\n\r\n", b"GET\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n", b"GET http://[ HTTP/1.1\r\n\r\n"],
)
def test_what_is_no_request_has_the_one_error_body(served: Served, rubbish: bytes) -> None:
    with connected(served) as client:
        client.sendall(rubbish)
        error_of(answer_of(client), 400, "request_malformed")


def test_a_trailer_is_no_header(served: Served) -> None:
    with connected(served) as client:
        client.sendall(
            b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Request-ID: trailer-1\r\n\r\n"
        )
        response = answer_of(client)
    error_of(response, 422, "invalid_request")
    assert response.headers["x-request-id"] != "trailer-1"


class TestAtOnce:
    """What is answered by its head alone."""

    FULL = Admission(max_predictions=0, max_bytes=MIB, largest_bytes=MIB)

    def test_a_refusal_neither_waits_for_the_body_nor_makes_anything_of_the_request(self, served: Served) -> None:
        served.door.admission = self.FULL
        with made_of(served) as (connection, sent):
            for number in range(3):
                connection.data_received(POST + b"Content-Length: 60000\r\n\r\n")
                assert len(sent) == number + 1, "it is answered before any of the body"
                assert sent[-1].startswith(b"HTTP/1.1 503 ")
                assert b"predict_queue_full" in sent[-1]
                for _ in range(6):
                    connection.data_received(bytes(10_000))
                assert len(sent) == number + 1
            assert connection.cycle is None, "no request was made of it, so no task, and nothing that keeps its body"
            assert not connection.tasks
            assert not connection.is_receiving

    def test_a_refused_request_may_come_in_any_pieces_and_with_the_next_one(self, served: Served) -> None:
        served.door.admission = self.FULL
        request = POST + b"Content-Length: 5\r\n\r\nabcde"
        with made_of(served) as (connection, sent):
            for number in range(len(request)):
                connection.data_received(request[number : number + 1])
            assert len(sent) == 1
            connection.data_received(3 * request)
            assert [answer[:12] for answer in sent] == 4 * [b"HTTP/1.1 503"]
            ids = {answer.partition(b"x-request-id: ")[2].partition(b"\r\n")[0] for answer in sent}
            assert len(ids) == 4, "each request has one of its own"

    def test_healthz_needs_neither_the_app_nor_a_place(self, served: Served) -> None:
        served.door.admission, served.door.max_connections = self.FULL, 0
        with made_of(served) as (connection, sent):
            connection.data_received(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: probe-12\r\n\r\n")
            [answer] = sent
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"x-request-id: probe-12\r\n" in answer
            assert answer.endswith(b'{"status":"ok"}')
            assert connection.cycle is None

    def test_an_idle_connection_is_closed_in_time(self, served: Served) -> None:
        with made_of(served) as (connection, sent):
            connection.data_received(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            connection.check_time(connection.loop.time() + connection.timeout_keep_alive - 0.1)
            assert len(sent) == 1
            connection.check_time(connection.loop.time() + connection.timeout_keep_alive)
            assert sent[1:] == [CLOSED]

    def test_the_rest_of_a_refused_body_must_come_in_time_too(self, served: Served) -> None:
        served.door.admission = self.FULL
        with made_of(served) as (connection, sent):
            connection.data_received(POST + b"Content-Length: 5\r\n\r\nabc")
            connection.check_time(connection.loop.time() + served.door.body_grace_s)
            assert sent[1:] == [CLOSED], "without a second answer"

    def test_where_no_place_is_free_strangers_are_told_that_they_are_strangers(self, serve: Serve) -> None:
        served = serve(admin_key=SecretStr("k" * 20))
        served.door.admission = self.FULL
        error_of(served.http.post("/predict", content=b"abc"), 401, "unauthenticated")
        key = {"Authorization": f"Bearer {'k' * 20}"}
        error_of(served.http.post("/predict", content=b"abc", headers=key), 503, "predict_queue_full")

    def test_all_of_it_is_counted(self, served: Served) -> None:
        served.door.admission = self.FULL
        for query in ("", "?model=job_1@2"):
            error_of(served.http.post("/predict" + query, content=b"abc"), 503, "predict_queue_full")
        assert served.http.get("/healthz").is_success
        refused = {"method": "POST", "route": "/predict", "status": "503", "code": "predict_queue_full"}
        live = {"method": "GET", "route": "/healthz", "status": "200", "code": "ok"}
        count = served.metrics.registry.get_sample_value
        wait_until(lambda: count("trainyard_http_requests_total", live) == 1)
        assert count("trainyard_http_requests_total", refused) == 2
        for model in ("latest", "job"):
            named = {"model": model, "code": "predict_queue_full"}
            assert count("trainyard_predict_requests_total", named) == 1


class TestParting:
    """A client that still sends when it is answered reads the answer, and no reset of the connection."""

    @pytest.mark.parametrize("is_chunked", [False, True])
    def test_a_refusal_is_read_after_all_was_sent(self, serve: Serve, is_chunked: bool) -> None:
        served = serve()
        served.door.admission = self._without_room()
        self._send_all(served, is_chunked, 503, "too_many_uploads")

    @pytest.mark.parametrize("is_chunked", [False, True])
    def test_so_is_one_of_the_app(self, serve: Serve, is_chunked: bool) -> None:
        served = serve(admin_key=SecretStr("k" * 20))
        self._send_all(served, is_chunked, 401, "unauthenticated")

    def test_a_client_that_never_ends_is_cut_off(self, serve: Serve) -> None:
        served = serve(admin_key=SecretStr("k" * 20))
        with connected(served) as client:
            head = POST + b"Content-Length: %d\r\n\r\n" % (500 * MIB)
            assert send_much(client, head, bytes(MIB), 500 * MIB) < 3 * PARTING_BYTES
        served = serve(admin_key=SecretStr("k" * 20), door={"parting_s": 0.2})
        with connected(served) as client:
            client.sendall(head)
            error_of(answer_of(client), 401, "unauthenticated")
            wait_until(lambda: not served.connections)

    @staticmethod
    def _without_room() -> Admission:
        admission = Admission(max_predictions=9, max_bytes=MIB, largest_bytes=8 * MIB)
        assert isinstance(admission.enter("POST", "/predict", [(b"content-length", b"%d" % (8 * MIB))]), Ticket)
        return admission

    @staticmethod
    def _send_all(served: Served, is_chunked: bool, status: int, code: str) -> None:
        size = 8 * MIB
        with connected(served) as client:
            if is_chunked:
                client.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % size)
                client.sendall(bytes(size))
                client.sendall(b"\r\n0\r\n\r\n")
            else:
                client.sendall(POST + b"Content-Length: %d\r\n\r\n" % size)
                client.sendall(bytes(size))
            answer = answer_of(client, may_be_reset=False)
            error_of(answer, status, code)
            assert answer.headers["connection"] == "close"


class TestTime:
    SHORT: dict[str, Any] = {"head_s": 1.0, "body_grace_s": 1.0}  # noqa: RUF012

    def test_a_silent_connection_is_closed(self, serve: Serve) -> None:
        served = serve(door=self.SHORT)
        with connected(served) as client:
            assert client.recv(1) == b""

    @pytest.mark.parametrize("start", [b"GET /heal", b"GET /healthz HTTP/1.1\r\nX-Slow: a"])
    def test_a_slow_head_is_refused(self, serve: Serve, start: bytes) -> None:
        served = serve(door=self.SHORT)
        with connected(served) as client:
            client.sendall(start)
            error_of(answer_of(client), 408, "request_timeout")

    def test_a_head_that_comes_byte_by_byte_is_refused(self, serve: Serve) -> None:
        served = serve(door=self.SHORT)
        with connected(served) as client:
            began = time.monotonic()
            with suppress(ConnectionError):
                while time.monotonic() < began + 20:
                    client.sendall(b"a")
                    time.sleep(0.05)
            assert time.monotonic() < began + 10

    def test_a_slow_head_after_an_answer_is_refused(self, serve: Serve) -> None:
        served = serve(door=self.SHORT)
        with connected(served) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
            client.sendall(b"GET /heal")
            error_of(answer_of(client), 408, "request_timeout")

    @pytest.mark.parametrize("start", [b"Content-Length: 1000\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n"])
    def test_a_body_that_does_not_come_is_refused(self, serve: Serve, start: bytes) -> None:
        served = serve(door=self.SHORT)
        with connected(served) as client:
            client.sendall(POST + start)
            error_of(answer_of(client), 408, "request_timeout")

    def test_a_slow_body_passes_if_it_comes_at_the_least_rate(self, serve: Serve) -> None:
        served = serve(door={"body_grace_s": 1.0, "body_bytes_per_s": 100.0})
        served.add_checkpoint(served.add_job(), 1)
        image = png(size=64)
        with connected(served) as client:
            client.sendall(POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % (len(image) + 1000))
            padded = image + bytes(1000)
            for start in range(0, len(padded), 100):
                client.sendall(padded[start : start + 100])
                time.sleep(0.1)
            assert answer_of(client).status_code == 200

    def test_a_slow_answer_is_no_slow_request(self, serve: Serve) -> None:
        def add_route(app: FastAPI) -> None:
            @app.get("/slow")
            def slow() -> str:
                time.sleep(2.5)
                return "done"

        served = serve(add_route, door=self.SHORT)
        assert served.http.get("/slow").status_code == 200


class TestNumber:
    def test_idle_connections_make_room_the_oldest_first(self, serve: Serve) -> None:
        served = serve(door={"max_connections": 5})
        clients = [socket.create_connection(("127.0.0.1", served.port), timeout=30) for _ in range(5)]
        wait_until(lambda: len(served.connections) == 5)
        assert served.http.get("/jobs").status_code == 200
        with suppress(ConnectionResetError):
            assert clients[0].recv(1) == b""  # it made room
        clients[4].sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert clients[4].recv(65536).startswith(b"HTTP/1.1 200")
        for client in clients:
            client.close()

    def test_thousands_of_idle_connections_lock_nobody_out(self, serve: Serve) -> None:
        served = serve()
        clients = []
        for _ in range(served.door.max_connections + 300):
            clients.append(socket.create_connection(("127.0.0.1", served.port), timeout=30))
        assert served.http.get("/jobs").status_code == 200
        assert len(served.connections) <= served.door.max_connections + 1
        for client in clients:
            client.close()

    def test_where_all_are_busy_only_the_probes_are_answered(self, serve: Serve) -> None:
        served = serve(door={"max_connections": 2})
        clients = []
        for _ in range(2):
            client = socket.create_connection(("127.0.0.1", served.port), timeout=30)
            client.sendall(POST + b"Content-Length: 1000\r\n\r\n")
            clients.append(client)
        wait_until(lambda: sum(connection.is_receiving for connection in served.connections) == 2)
        response = served.http.get("/jobs")
        error_of(response, 503, "too_many_connections")
        assert response.headers["connection"] == "close"
        assert response.headers["retry-after"] == "1"
        for path in ("/healthz", "/readyz"):
            assert served.http.get(path).status_code in {200, 503}, path
            assert "error" not in served.http.get(path).json()
        for client in clients:
            client.close()
        wait_until(lambda: served.http.get("/jobs").status_code == 200)


def test_neither_idle_nor_half_sent_requests_hold_up_a_stop(serve: Serve) -> None:
    served = serve()
    clients = [socket.create_connection(("127.0.0.1", served.port), timeout=30) for _ in range(30)]
    for number, client in enumerate(clients):
        if number % 3 == 1:
            client.sendall(b"GET /healthz HTTP/1.1\r\nX-Half: a")
        elif number % 3 == 2:
            client.sendall(POST + b"Content-Length: 1000\r\n\r\nabc")
    wait_until(lambda: sum(connection.is_receiving for connection in served.connections) == 10)
    began = time.monotonic()
    served.tell_to_stop()
    wait_until(lambda: served.has_stopped, timeout_s=60)
    assert time.monotonic() - began < 18  # ten seconds for those whose body may still come; nothing for the others
    for client in clients:
        client.close()


def test_who_reads_no_answers_is_not_read_any_more(served: Served) -> None:
    """Requests that are answered at once would else fill the memory with answers that nobody takes."""
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connected(served) as client:
        client.settimeout(3)
        sent = 0
        with suppress(TimeoutError):
            while sent < 40 * MIB:
                sent += client.send(request * 1000)
        [connection] = served.connections
        wait_until(lambda: connection.flow.read_paused)
        assert connection.transport.get_write_buffer_size() < 8 * MIB
        client.settimeout(10)
        answered, tail, status = 0, b"", b"HTTP/1.1 200"
        while answered < sent // len(request):  # who reads again is answered again
            data = tail + client.recv(MIB)
            answered, tail = answered + data.count(status), data[1 - len(status) :]
