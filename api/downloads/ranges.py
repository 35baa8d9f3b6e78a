"""The part of a file that a request asks for: one range of bytes, by RFC 9110."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Header

from trainyard.errors import BeyondTheEnd

_ONE = re.compile(r"bytes\s*=\s*(\d{0,18})-(\d{0,18})\s*", re.IGNORECASE)
PARTIAL: dict[int | str, dict[str, Any]] = {206: {"description": "The bytes that `Range` asks for."}}


@dataclass(frozen=True)
class RangeRequest:
    """What a request says of the bytes that it wants."""

    wanted: str | None = None  #: the header `Range`
    condition: str | None = None  #: the header `If-Range`

    def find(self, size_bytes: int, etag: str) -> range | None:
        """Return which bytes are wanted. None: all, as one that can't be understood, or asks for several ranges, gets.

        Args:
            size_bytes: of the whole file.
            etag: of the file; where the condition names another one, the client has bytes of another file.

        Raises:
            BeyondTheEnd: the file has fewer bytes.
        """
        found = _ONE.fullmatch(self.wanted or "")
        if found is None or (self.condition is not None and self.condition.strip() != etag):
            return None
        first, last = found.groups()
        if not first and not last:
            return None
        if not first:
            start, end = max(0, size_bytes - int(last)), size_bytes
        else:
            start, end = int(first), min(size_bytes, int(last) + 1 if last else size_bytes)
            if last and int(last) < start:
                return None
        if start >= size_bytes:
            raise BeyondTheEnd(
                f"the range {self.wanted!r} begins beyond the end: the file has {size_bytes} bytes",
                param="Range",
                size_bytes=size_bytes,
            )
        return range(start, end)


def _read_headers(
    wanted: Annotated[
        str | None,
        Header(alias="Range", max_length=1000, description="`bytes=1000-`: go on with a download that was cut."),
    ] = None,
    condition: Annotated[
        str | None,
        Header(
            alias="If-Range",
            max_length=1000,
            description="The `ETag` of the download that was cut: all is sent if the file is another one now.",
        ),
    ] = None,
) -> RangeRequest:
    return RangeRequest(wanted, condition)


RangeDep = Annotated[RangeRequest, Depends(_read_headers)]


def cut_out(pieces: Iterator[bytes], wanted: range) -> Iterator[bytes]:
    """Yield the wanted part of a file that comes in pieces. What precedes it is read, so that it can be verified."""
    at = 0
    for piece in pieces:
        start, end = max(wanted.start - at, 0), wanted.stop - at
        if start < len(piece):
            yield piece[start:end]
        at += len(piece)
        if at >= wanted.stop:
            return
