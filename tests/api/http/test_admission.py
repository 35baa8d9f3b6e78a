from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from api.access.buckets import LocalBuckets, Rate
from api.access.gate import Gate
from api.access.identity import ADMINISTRATOR, STRANGER, Identity
from api.access.rate_limit import RateLimiter
from api.http.admission import (
    MAX_RUNNING,
    PREDICT,
    SMALL_BYTES,
    STEP_BYTES,
    Admission,
    Door,
    Ticket,
    announced_bytes,
)
from api.http.streamed_bodies import Headers
from tests.api.http.test_connections import POST, answer_of, connected
from tests.api.served import FakeRuntime, Served, error_of, png, wait_until
from trainyard.access.refusals import RateLimited
from trainyard.errors import PredictQueueFull, ServiceError, TooManyUploads, Unauthenticated
from trainyard.settings import Settings

Serve = Callable[..., Served]
MIB = 1024 * 1024


def length(number: int) -> Headers:
    return [(b"host", b"x"), (b"content-length", str(number).encode())]


def enter(admission: Admission, headers: Headers, path: str = "/predict") -> Ticket:
    ticket = admission.enter("POST", path, headers)
    assert isinstance(ticket, Ticket), ticket
    return ticket


def test_places_are_taken_by_predictions_alone_and_given_back() -> None:
    admission = Admission(max_predictions=2, max_bytes=MIB, largest_bytes=MIB)
    tickets = [enter(admission, length(10)) for _ in range(2)]
    assert isinstance(admission.enter(*PREDICT, length(10)), PredictQueueFull)
    enter(admission, length(10), "/jobs")
    admission.leave(tickets[0])
    admission.leave(tickets[0])  # harmless
    enter(admission, length(10))
    assert isinstance(admission.enter(*PREDICT, length(10)), PredictQueueFull)


def test_large_bodies_share_their_room_and_never_keep_small_ones_out() -> None:
    admission = Admission(max_predictions=99, max_bytes=3 * MIB, largest_bytes=2 * MIB)
    first = enter(admission, length(2 * MIB))
    assert isinstance(admission.enter(*PREDICT, length(2 * MIB)), TooManyUploads)
    enter(admission, length(MIB))
    assert isinstance(admission.enter("POST", "/jobs", length(SMALL_BYTES + 1)), TooManyUploads)
    small = enter(admission, length(SMALL_BYTES))
    assert small.take(SMALL_BYTES)
    enter(admission, length(3 * MIB))  # too large in any case: the app says so
    admission.leave(first)
    enter(admission, length(2 * MIB))


def test_a_body_in_chunks_takes_room_as_it_grows() -> None:
    admission = Admission(max_predictions=99, max_bytes=3 * MIB, largest_bytes=3 * MIB)
    chunked: Headers = [(b"transfer-encoding", b"chunked")]
    ticket = enter(admission, chunked)
    for _ in range(3):
        assert ticket.take(STEP_BYTES)
    assert not ticket.take(1)
    admission.leave(ticket)
    assert all(enter(admission, chunked) for _ in range(3))


def test_only_some_predictions_run_and_the_others_start_in_the_order_in_which_they_came() -> None:
    admission = Admission(max_predictions=99, max_bytes=MIB, largest_bytes=MIB, max_running=2)
    started: list[int] = []
    tickets = [enter(admission, length(10)) for _ in range(6)]
    for number, ticket in enumerate(tickets):
        admission.start(ticket, partial(started.append, number))
    assert started == [0, 1]
    admission.start(enter(admission, length(10), "/jobs"), lambda: started.append(99))
    assert started == [0, 1, 99]  # what is no prediction waits for none
    admission.leave(tickets[2])  # it is gone before its turn came
    assert started == [0, 1, 99]
    admission.leave(tickets[1])
    assert started == [0, 1, 99, 3]
    admission.make_way(tickets[0])  # it goes on
    assert started == [0, 1, 99, 3, 4]
    admission.leave(tickets[0])  # ... and ends, which makes way for nobody else
    assert started == [0, 1, 99, 3, 4]
    admission.leave(tickets[3])
    assert started == [0, 1, 99, 3, 4, 5]


@pytest.mark.parametrize(
    ("headers", "size"),
    [([], 0), (length(7), 7), ([(b"content-length", b"x")], 0), ([*length(7), (b"transfer-encoding", b"x")], None)],
)
def test_what_a_head_announces(headers: Headers, size: int | None) -> None:
    assert announced_bytes(headers) == size


@contextmanager
def unfinished(served: Served, number: int, size: int) -> Iterator[list[socket.socket]]:
    """Uploads that announce a size, and send half of it at the most."""
    clients = [socket.create_connection(("127.0.0.1", served.port), timeout=30) for _ in range(number)]
    for client in clients:
        client.sendall(POST + b"Content-Length: %d\r\n\r\n" % size)
    yield clients
    for client in clients:
        client.close()


def test_unfinished_uploads_are_bounded_and_small_bodies_pass(serve: Serve) -> None:
    served = serve(max_upload_bytes=MIB, max_upload_bytes_at_once=4 * MIB)
    served.add_checkpoint(served.add_job(), 1)
    with unfinished(served, 4, MIB):
        wait_until(lambda: sum(connection.is_receiving for connection in served.connections) == 4)
        with connected(served) as client:
            client.sendall(POST + b"Content-Length: %d\r\n\r\n" % MIB)
            response = answer_of(client)  # it comes before any of the body
            error_of(response, 503, "too_many_uploads")
            assert response.headers["retry-after"] == "1"
            assert response.headers["connection"] == "close"
        assert served.http.post("/predict", content=png(), headers={"Content-Type": "image/png"}).status_code == 200
    wait_until(lambda: served.http.post("/predict", content=png() + bytes(MIB // 2)).status_code != 503)


def test_a_full_queue_is_said_before_the_body_and_keeps_the_connection(serve: Serve, runtime: FakeRuntime) -> None:
    served = serve(max_queued_predictions=2, model_wait_s=5)
    served.add_checkpoint(served.add_job(), 1)
    with unfinished(served, 2, 1000):
        wait_until(lambda: sum(connection.is_receiving for connection in served.connections) == 2)
        with connected(served) as client:
            for _ in range(3):
                client.sendall(POST + b"X-Request-ID: mine-1234\r\nContent-Length: 5\r\n\r\nabcde")
                answer = client.recv(65536)
                assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
                assert b"predict_queue_full" in answer
                assert b"mine-1234" in answer
                assert b"connection: close" not in answer
            client.sendall(POST + b"Expect: 100-continue\r\nContent-Length: 500000\r\n\r\n")
            error_of(answer_of(client), 503, "predict_queue_full")  # closed: nobody reads the rest
    wait_until(lambda: served.http.post("/predict", content=png(), headers={"Content-Type": "image/png"}).is_success)


def test_uploads_that_never_end_keep_nobody_from_starting(serve: Serve) -> None:
    served = serve()
    served.add_checkpoint(served.add_job(), 1)
    with unfinished(served, 3 * MAX_RUNNING, 1000):
        answer = served.http.post("/predict", content=png(), headers={"Content-Type": "image/png"})
        assert answer.status_code == 200


def test_a_client_that_leaves_while_it_waits_to_be_started_is_not_started(serve: Serve, runtime: FakeRuntime) -> None:
    served = serve()
    served.add_checkpoint(served.add_job(), 1)
    served.door.admission = Admission(max_predictions=2, max_bytes=MIB, largest_bytes=MIB, max_running=0)
    with connected(served) as client:
        client.sendall(POST + b"Content-Length: 5\r\n\r\nabcde")
        wait_until(lambda: served.door.admission.num_waiting == 1)
    wait_until(lambda: served.door.admission.num_waiting == 0)
    with connected(served) as client, connected(served) as other:  # its place is free again
        for one in (client, other):
            one.sendall(POST + b"Content-Length: 5\r\n\r\nabcde")
        wait_until(lambda: served.door.admission.num_waiting == 2)
    assert runtime.batches == []


def test_a_stranger_s_uploads_take_no_room(serve: Serve) -> None:
    served = serve(admin_key=SecretStr("k" * 20), max_queued_predictions=2)
    with unfinished(served, 10, 1000) as clients:
        for client in clients:
            error_of(answer_of(client), 401, "unauthenticated")
        key = {"Authorization": f"Bearer {'k' * 20}", "Content-Type": "image/png"}
        answer: httpx.Response = served.http.post("/predict", content=png(), headers=key)
        error_of(answer, 503, "no_checkpoint")


ASKED = {"path": "/predict"}


class FakeGate(Gate):
    """Knows who asks once that was looked up."""

    def __init__(self, identity: Identity | ServiceError, *, is_known: bool = True) -> None:
        super().__init__(Settings(), lambda _: False)
        self._identity, self._is_known = identity, is_known

    def judge(self, scope: Any) -> Identity | ServiceError | None:
        return self._identity if self._is_known else None

    async def identify(self, scope: Any) -> Identity | ServiceError:
        return self._identity


def door_of(identity: Identity | ServiceError, *, is_known: bool = True, per_s: float | None = None) -> Door:
    limiter = None if per_s is None else RateLimiter(LocalBuckets(Rate(per_s, 1)), Rate(per_s, 1))
    admission = Admission(max_predictions=1, max_bytes=1, largest_bytes=1)
    return Door(admission, FakeGate(identity, is_known=is_known), max_connections=1, limiter=limiter)


def test_without_a_limit_a_known_key_is_judged_at_once() -> None:
    assert door_of(ADMINISTRATOR).judge(ASKED) is ADMINISTRATOR
    assert door_of(refusal := Unauthenticated()).judge(ASKED) is refusal
    unknown = door_of(ADMINISTRATOR, is_known=False)
    assert unknown.judge(ASKED) is None
    assert asyncio.run(unknown.look_up(ASKED)) is ADMINISTRATOR


def test_a_limit_is_asked_for_what_counts_and_for_nothing_else() -> None:
    async def run() -> None:
        door = door_of(ADMINISTRATOR, per_s=1)
        assert door.judge(ASKED) is None, "nothing was asked for ahead"
        assert await door.look_up(ASKED) is ADMINISTRATOR
        assert isinstance(await door.look_up(ASKED), RateLimited)
        for identity in (STRANGER, Unauthenticated()):
            for _ in range(3):
                assert door_of(identity, per_s=1).judge(ASKED) is identity
                assert await door_of(identity, per_s=1).look_up(ASKED) is identity
        assert door.judge({"path": "/metrics"}) is ADMINISTRATOR

    asyncio.run(run())
