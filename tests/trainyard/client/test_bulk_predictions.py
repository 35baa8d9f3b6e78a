"""The client's part for predictions over many images, against a yard that the test plays."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from trainyard.client import ApiError, Client
from trainyard.client.synchronous import predictions as module

Answer = Callable[[httpx.Request], httpx.Response]


def connect(answer: Answer) -> Client:
    client = Client("http://yard")
    client._http = httpx.Client(base_url="http://yard", transport=httpx.MockTransport(answer))
    return client


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_COME_BACK_S", 0)


def line(number: int) -> bytes:
    return json.dumps({"row": number}).encode() + b"\n"


def test_results_that_are_cut_go_on_behind_the_last_row() -> None:
    asked: list[str] = []

    def cut() -> Iterator[bytes]:
        yield line(0) + line(1)
        raise httpx.RemoteProtocolError("cut")

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params["after"])
        match len(asked):
            case 1:
                return httpx.Response(200, content=cut())
            case 2:
                return httpx.Response(503, json={"error": {"code": "too_many_streams", "message": "later"}})
            case _:
                return httpx.Response(200, content=line(2))

    assert [row["row"] for row in connect(answer).iter_results("pred_1")] == [0, 1, 2]
    assert asked == ["-1", "1", "1"]


def test_a_name_may_hold_an_end_of_a_line_and_a_row_may_come_in_pieces() -> None:
    rows = [{"row": 0, "file": "a\u2028b"}, {"row": 1, "file": "a\x85b"}]
    data = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
    pieces = [data[at : at + 5] for at in range(0, len(data), 5)]
    assert list(connect(lambda _: httpx.Response(200, content=iter(pieces))).iter_results("pred_1")) == rows


def test_spaces_that_keep_the_connection_alive_are_no_rows() -> None:
    content = b"  " + line(0) + b" " + line(1) + b"\n   "
    client = connect(lambda _: httpx.Response(200, content=content))
    assert [row["row"] for row in client.iter_results("pred_1")] == [0, 1]


def test_results_of_nothing_are_refused_at_once() -> None:
    refusal = httpx.Response(404, json={"error": {"code": "prediction_not_found", "message": "there is none"}})
    with pytest.raises(ApiError, match="there is none"):
        list(connect(lambda _: refusal).iter_results("pred_1"))


def test_a_table_that_is_cut_leaves_no_file(tmp_path: Path) -> None:
    def cut() -> Iterator[bytes]:
        yield b"row,file\n"
        raise httpx.RemoteProtocolError("cut")

    target = tmp_path / "out.csv"
    with pytest.raises(httpx.RemoteProtocolError):
        connect(lambda _: httpx.Response(200, content=cut())).download_results("pred_1", target)
    assert list(tmp_path.iterdir()) == []
    connect(lambda _: httpx.Response(200, content=b"row,file\n")).download_results("pred_1", target)
    assert target.read_bytes() == b"row,file\n"


def test_a_prediction_is_calibrated_where_that_is_asked_for() -> None:
    bodies: list[object] = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return httpx.Response(202, json={"id": "pred_1"})

    connect(answer).create_prediction(upload="upl_1", calibrated=True)
    assert bodies == [{"upload": "upl_1", "model": "latest", "top_k": 5, "calibrated": True}]


def test_a_prediction_is_asked_for_waited_for_and_removed() -> None:
    states = iter(["queued", "running", "succeeded"])
    seen: list[tuple[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.method, request.url.path))
        if request.method == "POST":
            assert json.loads(request.content) == {"dataset": "digits", "model": "latest", "top_k": 3}
            assert request.headers["Idempotency-Key"] == "once"
            return httpx.Response(202, json={"id": "pred_1"})
        if request.method == "DELETE":
            return httpx.Response(204)
        return httpx.Response(200, json={"state": next(states)})

    client, told = connect(answer), list[str]()
    made = client.create_prediction(dataset="digits", top_k=3, idempotency_key="once")
    found = client.wait_for_prediction(made["id"], poll_s=0, on_change=lambda it: told.append(it["state"]))
    client.delete_prediction(made["id"])
    assert (found["state"], told) == ("succeeded", ["queued", "running", "succeeded"])
    assert seen[-1] == ("DELETE", "/predictions/pred_1")
    with pytest.raises(TimeoutError):
        connect(lambda _: httpx.Response(200, json={"state": "queued"})).wait_for_prediction(
            "pred_1", timeout_s=0, poll_s=0
        )
