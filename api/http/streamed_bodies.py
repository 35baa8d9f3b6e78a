"""Which requests send a file that goes straight to the disk, so that its size costs no memory."""

from __future__ import annotations

import re

DATASETS, UPLOADS, FILES = "/datasets", "/uploads", "/v1/files"
FORM_BYTES = 2 * 1024 * 1024  #: that a form may have beside its file: boundaries, headers and fields
_UPLOAD = re.compile(rf"{UPLOADS}(/[^/]+)?")

Headers = list[tuple[bytes, bytes]]


def is_of_uploads(path: str) -> bool:
    """Whether a path is one of the tus protocol."""
    return _UPLOAD.fullmatch(path) is not None


def is_streamed(method: str, path: str, headers: Headers) -> bool:
    """Whether a request's body goes to the disk while it arrives.

    Args:
        method: of the request.
        path: of the request.
        headers: with names in lower case.
    """
    if is_of_uploads(path):
        return method in {"POST", "PATCH"}
    if (method, path) == ("POST", FILES):
        return True
    return (method, path) == ("POST", DATASETS) and not _is_json(headers)


def _is_json(headers: Headers) -> bool:
    given = next((value for name, value in headers if name == b"content-type"), b"")
    return given.partition(b";")[0].strip().lower() in {b"", b"application/json"}
