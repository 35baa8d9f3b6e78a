"""Downloads from a yard that the test plays. The real one is in `tests/api/downloads`."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from trainyard.client.errors import ApiError, DownloadDamaged
from trainyard.client.synchronous.downloading import RESUMES, download

WHOLE = bytes(range(256)) * 40


class ActedYard:
    """Sends a file, and cuts the connection after as many bytes as a test wants."""

    def __init__(self, *cuts: int) -> None:
        self.cuts = list(cuts)
        self.content, self.tag, self.digest = WHOLE, '"one"', hashlib.sha256(WHOLE).digest()
        self.asked: list[str | None] = []
        self.http = httpx.Client(base_url="http://yard", transport=httpx.MockTransport(self.answer))

    def answer(self, request: httpx.Request) -> httpx.Response:
        wanted = request.headers.get("Range")
        self.asked.append(wanted)
        start, headers = 0, {"ETag": self.tag}
        headers["Repr-Digest"] = f"sha-256=:{base64.b64encode(self.digest).decode()}:"
        if wanted is not None and request.headers["If-Range"] == self.tag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            headers["Content-Range"] = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        headers["Content-Length"] = str(len(self.content) - start)
        return httpx.Response(206 if start else 200, headers=headers, content=self.pieces(start))

    def pieces(self, start: int) -> Iterator[bytes]:
        cut = self.cuts.pop(0) if self.cuts else None
        if cut is None:
            yield self.content[start:]
            return
        if cut:
            yield self.content[start : start + cut]
        raise httpx.ReadError("the connection was cut")


def fetch(http: httpx.Client, target: Path, retries: int = 1) -> list[float]:
    waits: list[float] = []
    download(http, "/it", target, {}, retries=retries, sleep=waits.append)
    return waits


def test_a_download_that_is_cut_goes_on_where_it_stopped(tmp_path: Path) -> None:
    yard = ActedYard(1000, 500, 0)
    assert fetch(yard.http, tmp_path / "it") == [0.2, 0.2, 0.4]
    assert (tmp_path / "it").read_bytes() == WHOLE
    assert yard.asked == [None, "bytes=1000-", "bytes=1500-", "bytes=1500-"]
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


def test_it_begins_again_where_the_file_is_another_one(tmp_path: Path) -> None:
    yard = ActedYard(1000)

    def change(seconds: float) -> None:
        yard.content, yard.tag = WHOLE[::-1], '"two"'
        yard.digest = hashlib.sha256(yard.content).digest()

    download(yard.http, "/it", tmp_path / "it", {}, retries=1, sleep=change)
    assert (tmp_path / "it").read_bytes() == WHOLE[::-1]


def test_what_does_not_match_its_digest_is_no_file(tmp_path: Path) -> None:
    yard = ActedYard(1000)
    yard.digest = bytes(32)
    with pytest.raises(DownloadDamaged, match="download it again"):
        fetch(yard.http, tmp_path / "it")
    assert list(tmp_path.iterdir()) == []


def test_it_gives_up_when_nothing_more_comes(tmp_path: Path) -> None:
    yard = ActedYard(1000, *([0] * 50))
    with pytest.raises(httpx.ReadError):
        fetch(yard.http, tmp_path / "it")
    assert len(yard.asked) == 2 + RESUMES - 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("status", "num_asked"), [(404, 1), (503, 3)])
def test_a_refusal_is_final_unless_it_may_pass(tmp_path: Path, status: int, num_asked: int) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(status, json={"error": {"code": "it", "message": "no"}})

    http = httpx.Client(base_url="http://yard", transport=httpx.MockTransport(answer))
    with pytest.raises(ApiError):
        fetch(http, tmp_path / "it", retries=2)
    assert len(asked) == num_asked
    assert list(tmp_path.iterdir()) == []


def test_bytes_of_another_place_are_not_taken(tmp_path: Path) -> None:
    yard = ActedYard(1000)

    def answer(request: httpx.Request) -> httpx.Response:
        found = yard.answer(request)
        if "Content-Range" in found.headers:
            found.headers["Content-Range"] = f"bytes 0-{len(WHOLE) - 1}/{len(WHOLE)}"
        return found

    http = httpx.Client(base_url="http://yard", transport=httpx.MockTransport(answer))
    with pytest.raises(DownloadDamaged, match="another byte"):
        fetch(http, tmp_path / "it")
