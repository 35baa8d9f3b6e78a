"""Downloads a file. After a cut it goes on at the byte where it stopped, and the whole is compared with its digest."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import BinaryIO

import httpx

from trainyard.client.asynchronous.waiting import Sleep, run_blocking
from trainyard.client.asynchronous.waiting import sleep as wait_for
from trainyard.client.errors import ApiError, DownloadDamaged, check
from trainyard.client.kinds import FIRST_WAIT_S, LONGEST_WAIT_S, Json, OnProgress

RESUMES = 6  #: tries at least, within some twelve seconds, where a part has come: the yard may be starting again
_FIRST_BYTE_S = 600.0  # a format may be made first
_PIECE_BYTES = 1024 * 1024
#: What of a connection means that the file, or the rest of it, may come over another one.
_LOST = (httpx.ConnectError, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError, httpx.ReadTimeout)
_FROM = re.compile(r"bytes (\d+)-\d+/(\d+)")
_SHA256 = re.compile(r"sha-256=:([A-Za-z0-9+/=]+):")


async def download(
    http: httpx.AsyncClient,
    path: str,
    target: Path,
    params: Json,
    *,
    retries: int,
    on_received: OnProgress | None = None,
    sleep: Sleep = wait_for,
) -> None:
    """Write an answer's body to a file, complete or not at all.

    Args:
        http: of the yard.
        path: of the download.
        target: the file.
        params: of the request.
        retries: how often it is asked for again without a byte more; oftener where a part of it has come.
        on_received: told how much has come, and how much it is; 0 for all if that is not known.
        sleep: waits.

    Raises:
        ApiError: the yard refuses it.
        DownloadDamaged: what came is not what the yard said it is.
        httpx.TransportError: the yard can't be reached, or the connection is cut again and again.
    """
    draft = target.with_name(f".{target.name}.part")
    try:
        with draft.open("wb+") as file:
            part = _Download(http, path, params, file, on_received or (lambda received, total: None))
            tries_left, wait_s = retries, FIRST_WAIT_S
            while True:
                before = part.received
                try:
                    await part.go_on()
                    break
                except (*_LOST, ApiError) as exc:
                    if part.can_go_on and part.received > before:
                        tries_left, wait_s = max(retries, RESUMES), FIRST_WAIT_S
                    if tries_left == 0 or (isinstance(exc, ApiError) and not exc.may_pass):
                        raise
                    told_s = exc.retry_after_s if isinstance(exc, ApiError) else None
                await sleep(wait_s if told_s is None else min(LONGEST_WAIT_S, told_s))
                tries_left, wait_s = tries_left - 1, min(LONGEST_WAIT_S, 2 * wait_s)
            await run_blocking(part.verify)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


class _Download:
    """A file that has come so far."""

    def __init__(self, http: httpx.AsyncClient, path: str, params: Json, file: BinaryIO, tell: OnProgress) -> None:
        self._http, self._path, self._params, self._file, self._tell = http, path, params, file, tell
        self._etag: str | None = None
        self._sha256: bytes | None = None
        self.received = 0

    @property
    def can_go_on(self) -> bool:
        """Whether the yard sends the rest alone."""
        return self._etag is not None

    async def go_on(self) -> None:
        """Ask for what has not come yet, and write it. If the file is another one now, all of it comes again."""
        headers = {"Accept-Encoding": "identity"}
        if self._etag is not None:
            headers |= {"Range": f"bytes={self.received}-", "If-Range": self._etag}
        timeout = httpx.Timeout(self._http.timeout.connect, read=_FIRST_BYTE_S)
        async with self._http.stream(
            "GET", self._path, params=self._params, headers=headers, timeout=timeout
        ) as answer:
            if answer.status_code >= 400:
                await answer.aread()
                check(answer)
            total = self._begin(answer)
            async for piece in answer.aiter_bytes():
                await run_blocking(self._file.write, piece)
                self.received += len(piece)
                self._tell(self.received, total)

    def _begin(self, answer: httpx.Response) -> int:
        """Get ready for what comes, and return the size of the whole file; 0: it is not known."""
        if answer.status_code == httpx.codes.PARTIAL_CONTENT:
            found = _FROM.fullmatch(answer.headers.get("Content-Range", ""))
            if found is None or int(found[1]) != self.received:
                raise DownloadDamaged(f"{self._path} goes on at another byte than asked for: download it again")
            return int(found[2])
        self._file.seek(0)
        self._file.truncate()
        self.received, self._etag = 0, answer.headers.get("ETag")
        digest = _SHA256.search(answer.headers.get("Repr-Digest", ""))
        self._sha256 = None if digest is None else base64.b64decode(digest[1])
        return int(answer.headers.get("Content-Length", 0))

    def verify(self) -> None:
        """Compare the whole file with its digest, if the yard told it.

        Raises:
            DownloadDamaged: they differ.
        """
        if self._sha256 is None:
            return
        found = hashlib.sha256()
        self._file.seek(0)
        while piece := self._file.read(_PIECE_BYTES):
            found.update(piece)
        if found.digest() != self._sha256:
            raise DownloadDamaged(f"what came of {self._path} does not match its digest: download it again")
