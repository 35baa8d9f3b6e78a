"""Uploads against an acted server, which is cut off where a test wants. The real one is in `tests/integration`."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from trainyard.client.errors import ApiError
from trainyard.client.folder_archive import FolderArchive
from trainyard.client.synchronous import uploading


class ActedYard:
    """Speaks as much of the tus protocol as the client needs."""

    def __init__(self) -> None:
        self.content: dict[str, bytearray] = {}
        self.facts: dict[str, dict[str, str]] = {}
        self.patches: list[int] = []
        self.locked: dict[str, int] = {}  # HEADs of an upload to be refused
        self.trouble: Callable[[int, bytes], httpx.Response | int | None] = lambda number, body: None
        self.http = httpx.Client(base_url="http://yard", transport=httpx.MockTransport(self.answer))

    def answer(self, request: httpx.Request) -> httpx.Response:
        upload_id = request.url.path.rpartition("/")[2]
        if request.method == "POST":
            made = f"upl_{len(self.content) + 1}"
            self.facts[made] = {
                "length": request.headers["Upload-Length"],
                "meta": request.headers["Upload-Metadata"],
            }
            self.content[made] = bytearray()
            return httpx.Response(201, json={"id": made})
        if request.method == "GET" and upload_id in self.content:
            facts = {"offset_bytes": len(self.content[upload_id]), "size_bytes": int(self.facts[upload_id]["length"])}
            return httpx.Response(200, json=facts)
        if request.method == "GET":
            return httpx.Response(200, json={"data": [self.row(each) for each in self.content]})
        if request.method == "HEAD" and self.locked.get(upload_id, 0) > 0:
            self.locked[upload_id] -= 1
            return httpx.Response(423)
        if request.method == "HEAD":
            offset = str(len(self.content[upload_id]))
            return httpx.Response(
                200, headers={"Upload-Offset": offset, "Upload-Metadata": self.facts[upload_id]["meta"]}
            )
        return self.take(request, self.content[upload_id])

    def row(self, upload_id: str) -> dict[str, Any]:
        pairs = dict(pair.split(" ") for pair in self.facts[upload_id]["meta"].split(","))
        name = base64.b64decode(pairs["filename"]).decode()
        return {"id": upload_id, "size_bytes": int(self.facts[upload_id]["length"]), "name": name, "expires_at": "soon"}

    def take(self, request: httpx.Request, content: bytearray) -> httpx.Response:
        body = request.read()
        assert int(request.headers["Content-Length"]) == len(body)
        assert int(request.headers["Upload-Offset"]) == len(content), "where the upload goes on"
        self.patches.append(len(body))
        trouble = self.trouble(len(self.patches), body)
        if isinstance(trouble, httpx.Response):
            return trouble
        if trouble is not None:
            content += body[:trouble]
            raise httpx.ReadError("the connection was cut")
        content += body
        return httpx.Response(204, headers={"Upload-Offset": str(len(content))})


@pytest.fixture
def source(tmp_path: Path) -> FolderArchive:
    for number in range(5):
        (tmp_path / "pictures" / "a").mkdir(parents=True, exist_ok=True)
        (tmp_path / "pictures" / "a" / f"{number}.png").write_bytes(bytes([number]) * 3000)
    return FolderArchive(tmp_path / "pictures")


@pytest.fixture(autouse=True)
def pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploading, "PIECE_BYTES", 5000)


def send(yard: ActedYard, source: FolderArchive, **kw: Any) -> tuple[str, list[float], list[tuple[int, int]]]:
    waits, told = list[float](), list[tuple[int, int]]()
    upload_id = uploading.upload(
        yard.http, source, on_sent=lambda sent, total: told.append((sent, total)), sleep=waits.append, **kw
    )
    return upload_id, waits, told


def test_a_folder_arrives_in_pieces_and_the_progress_only_grows(source: FolderArchive) -> None:
    yard = ActedYard()
    upload_id, waits, told = send(yard, source)
    assert bytes(yard.content[upload_id]) == b"".join(source.read_from(0))
    assert max(yard.patches) == 5000
    assert (waits, told[0], told[-1]) == ([], (0, source.size_bytes), (source.size_bytes, source.size_bytes))
    assert [sent for sent, _ in told] == sorted(sent for sent, _ in told)


def test_after_a_cut_it_goes_on_at_the_byte_that_the_yard_names(source: FolderArchive) -> None:
    yard = ActedYard()
    yard.trouble = lambda number, body: 1234 if number in {1, 2} else None
    upload_id, waits, _ = send(yard, source)
    assert bytes(yard.content[upload_id]) == b"".join(source.read_from(0))
    assert waits == [1.0, 1.0], "each brought bytes"
    assert sum(yard.patches) == source.size_bytes + 2 * (5000 - 1234)


def test_waits_grow_while_nothing_arrives(source: FolderArchive) -> None:
    yard = ActedYard()
    busy = httpx.Response(503, json={"error": {"code": "too_many_uploads"}})
    yard.trouble = lambda number, body: busy if number <= 7 else None
    _, waits, _ = send(yard, source)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_it_gives_up_when_nothing_arrives_for_too_long(source: FolderArchive) -> None:
    yard = ActedYard()
    yard.trouble = lambda number, body: 0
    with pytest.raises(httpx.TransportError):
        send(yard, source, patience_s=-1)
    assert len(yard.patches) == 1


def test_a_refusal_is_final(source: FolderArchive) -> None:
    yard = ActedYard()
    refused = httpx.Response(413, json={"error": {"code": "body_too_large", "message": "too large"}})
    yard.trouble = lambda number, body: refused
    with pytest.raises(ApiError, match="body_too_large"):
        send(yard, source)
    assert len(yard.patches) == 1


def test_a_later_process_goes_on_with_the_upload_of_the_same_files(source: FolderArchive, tmp_path: Path) -> None:
    yard = ActedYard()
    yard.trouble = lambda number, body: 100 if number == 2 else None
    with pytest.raises(httpx.TransportError):
        send(yard, source, patience_s=-1)
    assert len(yard.content["upl_1"]) == 5100
    send(yard, FolderArchive(tmp_path / "pictures"))
    assert bytes(yard.content["upl_1"]) == b"".join(source.read_from(0))
    assert yard.patches[2] == 5000, "from byte 5,100 on"


def test_an_upload_of_other_files_is_left_alone(source: FolderArchive, tmp_path: Path) -> None:
    yard = ActedYard()
    yard.trouble = lambda number, body: 100
    with pytest.raises(httpx.TransportError):
        send(yard, source, patience_s=-1)
    (tmp_path / "pictures" / "a" / "0.png").write_bytes(bytes(3000))
    yard.trouble = lambda number, body: None
    changed = FolderArchive(tmp_path / "pictures")
    assert changed.size_bytes == source.size_bytes
    upload_id, _, _ = send(yard, changed)
    assert upload_id == "upl_2"
    assert bytes(yard.content["upl_2"]) == b"".join(changed.read_from(0))
    assert len(yard.content["upl_1"]) == 100


def cut_off(yard: ActedYard, source: FolderArchive) -> None:
    """Leave an upload behind that was begun and not completed."""
    yard.trouble = lambda number, body: 100
    with pytest.raises(httpx.TransportError):
        send(yard, source, patience_s=-1)
    yard.trouble = lambda number, body: None


def test_an_upload_that_somebody_else_sends_now_is_left_to_them(source: FolderArchive) -> None:
    yard = ActedYard()
    cut_off(yard, source)
    yard.locked["upl_1"] = 1
    upload_id, waits, _ = send(yard, source)
    assert (upload_id, waits) == ("upl_2", [])
    assert len(yard.content["upl_1"]) == 100
    assert bytes(yard.content["upl_2"]) == b"".join(source.read_from(0))


def test_one_that_somebody_else_goes_on_with_first_is_left_to_them(source: FolderArchive) -> None:
    """Both found it free; the other one was faster, so this one's bytes are refused."""
    yard = ActedYard()
    cut_off(yard, source)

    def refuse_once(number: int, body: bytes) -> httpx.Response | None:
        if number > 2:
            return None
        yard.locked["upl_1"] = 1
        return httpx.Response(423, json={"error": {"code": "upload_locked"}})

    yard.trouble = refuse_once
    upload_id, waits, _ = send(yard, source)
    assert (upload_id, waits) == ("upl_2", [1.0])
    assert bytes(yard.content["upl_2"]) == b"".join(source.read_from(0))


def test_one_that_somebody_else_has_used_up_is_sent_again(source: FolderArchive) -> None:
    yard = ActedYard()
    cut_off(yard, source)
    yard.trouble = lambda number, body: (
        httpx.Response(404, json={"error": {"code": "upload_not_found"}}) if number == 2 else None
    )
    assert send(yard, source)[0] == "upl_2"


def test_its_own_upload_is_given_up_only_after_some_tries(source: FolderArchive) -> None:
    """The request before may end a little later: a proxy still hands over what it has."""
    yard = ActedYard()
    yard.trouble = lambda number, body: 1000 if number == 1 else None
    yard.locked["upl_1"] = 1
    assert send(yard, source)[0] == "upl_1"
    other = ActedYard()
    other.trouble = lambda number, body: 0 if number <= 4 else None
    other.locked["upl_1"] = 4
    upload_id, waits, told = send(other, source)
    assert (upload_id, waits) == ("upl_2", [1.0, 2.0, 4.0, 8.0])
    assert told[-1] == (source.size_bytes, source.size_bytes)


def test_one_that_is_only_being_stored_is_waited_for(source: FolderArchive) -> None:
    """All bytes are there, and the connection was cut before the yard could say so."""
    yard = ActedYard()
    last = -(-source.size_bytes // 5000)
    yard.trouble = lambda number, body: len(body) if number == last else None
    yard.locked["upl_1"] = 1
    assert send(yard, source)[0] == "upl_1"
    assert len(yard.content) == 1
