"""Conditional responses: an `ETag`, and 304 for a client that has the response with that tag.

The content of the tag is read from the database for every request. Nothing is cached, so nothing can be stale.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from fastapi import Header
from starlette.responses import Response

LASTING_S = 30 * 24 * 3600
_TAG = re.compile(r'\*|"[^"]*"')

IfNoneMatch = Annotated[
    list[str] | None,
    Header(
        alias="If-None-Match", description="The `ETag` of the previous answer: 304 if the answer would be the same."
    ),
]
NOT_MODIFIED: dict[int | str, dict[str, Any]] = {
    304: {"description": "Nothing has changed since the answer with that `ETag`. No body."}
}


def answer_json(body: bytes, known: Iterable[str] | None) -> Response:
    """Return a body with its tag, or 304 if the client has it.

    Args:
        body: JSON.
        known: the `If-None-Match` lines of the request.
    """
    headers = tag_headers(body)
    if is_known(headers, known):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


def tag_headers(content: bytes) -> dict[str, str]:
    """Build headers that let a client keep a response, but make it ask before it uses the response again.

    Args:
        content: another whenever the answer is another; the body itself, or what it is made of.
    """
    tag = hashlib.blake2b(content, digest_size=16).hexdigest()
    return {"ETag": f'"{tag}"', "Cache-Control": "no-cache, private"}


def lasting_headers(content: bytes) -> dict[str, str]:
    """Build headers that let a client keep a response for a month without asking again.

    Args:
        content: as for `tag_headers`; at this address the answer is always the same.
    """
    return tag_headers(content) | {"Cache-Control": f"private, max-age={LASTING_S}, immutable"}


def is_known(headers: Mapping[str, str], known: Iterable[str] | None) -> bool:
    """Whether a client has the response with these headers; `W/` before a tag does not matter for reading."""
    return any(found.group() in {"*", headers["ETag"]} for line in known or () for found in _TAG.finditer(line))
