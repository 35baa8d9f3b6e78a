# Written by `make client` from the module of this name in `trainyard.client.asynchronous`; not to be edited.
"""Uploads a file or folder by the tus protocol. After a cut, or in a later process, it goes on where it stopped."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import httpx

from trainyard.client.errors import ApiError, NotFound, check
from trainyard.client.folder_archive import UploadSource
from trainyard.client.kinds import LONGEST_WAIT_S, OnProgress
from trainyard.client.synchronous.waiting import Sleep, iterate
from trainyard.client.synchronous.waiting import sleep as wait_for

PIECE_BYTES = 64 * 1024 * 1024  # of one request: what a proxy in between may have to hold
PATIENCE_S = 600.0  # without a byte more
LOCKED_TRIES = 3  # at an upload of one's own that somebody else goes on with, before another one is begun
_TUS = {"Tus-Resumable": "1.0.0"}


def upload(
    http: httpx.Client,
    source: UploadSource,
    *,
    on_sent: OnProgress | None = None,
    patience_s: float = PATIENCE_S,
    sleep: Sleep = wait_for,
) -> str:
    """Upload a source, and return the upload's id.

    An upload of the same files that was begun before, and not completed, is gone on with, unless somebody else sends
    it now: then this one is another upload, and neither disturbs the other.

    Args:
        http: of the yard.
        source: what to upload.
        on_sent: told how far it is.
        patience_s: seconds without a byte more, after which it gives up.
        sleep: waits.

    Raises:
        ApiError: the yard refuses it.
        httpx.TransportError: the yard can't be reached for too long.
        SourceChanged: a file has changed meanwhile.
        OSError: a file can't be read.
    """
    tell = on_sent or (lambda sent, total: None)
    begun = _find_begun(http, source)
    upload_id, offset = begun or (_begin(http, source), 0)
    tries_left = LOCKED_TRIES if begun is None else 0
    tell(offset, source.size_bytes)
    waits, moved_at = 1.0, time.monotonic()
    while offset < source.size_bytes:
        before = offset
        try:
            offset = _send_piece(http, upload_id, source, offset, tell)
        except (httpx.TransportError, ApiError) as exc:
            is_used_up = isinstance(exc, NotFound) and tries_left < LOCKED_TRIES  # somebody else was faster
            is_over = isinstance(exc, ApiError) and not exc.is_worth_another_try and not is_used_up
            if is_over or time.monotonic() - moved_at > patience_s:
                raise
            sleep(waits)
            waits = min(LONGEST_WAIT_S, 2 * waits)
            offset, is_locked = _ask_offset(http, upload_id, offset)
            if is_used_up or (is_locked and tries_left == 0):
                upload_id, offset, before = _begin(http, source), 0, -1
                tries_left = LOCKED_TRIES
            else:
                tries_left -= is_locked
        if offset > before:
            waits, moved_at = 1.0, time.monotonic()
        tell(offset, source.size_bytes)
    return upload_id


def _begin(http: httpx.Client, source: UploadSource) -> str:
    pairs = {"filename": source.file_name, "fingerprint": source.fingerprint}
    metadata = ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in pairs.items())
    headers = _TUS | {"Upload-Length": str(source.size_bytes), "Upload-Metadata": metadata}
    answer = http.post("/uploads", headers=headers)
    check(answer)
    return str(answer.json()["id"])


def _find_begun(http: httpx.Client, source: UploadSource) -> tuple[str, int] | None:
    """Return an upload of the same files, and its offset."""
    answer = http.get("/uploads", params={"limit": 100})
    check(answer)
    for row in answer.json()["data"]:
        if row["size_bytes"] == source.size_bytes and row["name"] == source.file_name and row["expires_at"]:
            head = http.head(f"/uploads/{row['id']}", headers=_TUS)
            if (
                head.status_code < 400
                and _fingerprint_of(head.headers.get("Upload-Metadata", "")) == source.fingerprint
            ):
                return str(row["id"]), int(head.headers["Upload-Offset"])
    return None


def _fingerprint_of(metadata: str) -> str | None:
    for pair in metadata.split(","):
        key, _, value = pair.strip().partition(" ")
        if key == "fingerprint":
            return base64.b64decode(value).decode(errors="replace")
    return None


def _ask_offset(http: httpx.Client, upload_id: str, known: int) -> tuple[int, bool]:
    """Return where the upload goes on, and whether somebody else sends it now.

    If nobody answers, it is what is known: the next try shows it.
    """
    try:
        head = http.head(f"/uploads/{upload_id}", headers=_TUS)
        if head.status_code != HTTPStatus.LOCKED:
            return (int(head.headers["Upload-Offset"]) if head.is_success else known), False
        look = http.get(f"/uploads/{upload_id}")  # without that header it only asks
    except httpx.TransportError:
        return known, False
    if not look.is_success:
        return known, True
    found = look.json()
    return int(found["offset_bytes"]), found["offset_bytes"] != found["size_bytes"]


def _send_piece(http: httpx.Client, upload_id: str, source: UploadSource, offset: int, tell: OnProgress) -> int:
    size = min(PIECE_BYTES, source.size_bytes - offset)

    def body() -> Iterator[bytes]:
        sent = 0
        for chunk in iterate(source.read_from(offset)):
            part = chunk[: size - sent]
            yield part
            sent += len(part)
            tell(offset + sent, source.size_bytes)
            if sent == size:
                return

    headers: dict[str, Any] = _TUS | {
        "Content-Type": "application/offset+octet-stream",
        "Content-Length": str(size),
        "Upload-Offset": str(offset),
    }
    answer = http.patch(f"/uploads/{upload_id}", headers=headers, content=body())
    check(answer)
    return int(answer.headers["Upload-Offset"])
