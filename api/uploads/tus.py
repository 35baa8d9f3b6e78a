"""The headers of the tus protocol, version 1.0: https://tus.io/protocols/resumable-upload."""

from __future__ import annotations

import base64
import binascii
import re
from email.utils import formatdate

from api.uploads.file_names import clean_file_name
from api.uploads.writing import Checksum
from trainyard.database.tables import Upload
from trainyard.errors import InvalidRequest, UnsupportedMedia

CONTENT_TYPE = "application/offset+octet-stream"
EXTENSIONS = "creation,creation-with-upload,creation-defer-length,checksum,expiration,termination"
ALGORITHMS = {"sha1": 20, "sha256": 32, "md5": 16}  #: and the bytes of each
MAX_PAIRS = 32
MAX_METADATA = 8 * 1024
_KEY = re.compile(r"[!-+\--~]{1,100}")  # visible ASCII but the comma
_NAMES = ("filename", "name")  #: what the usual clients call it


def read_metadata(header: str | None) -> dict[str, str]:
    """Read `Upload-Metadata`: keys with values in base64, which stay as they are.

    Raises:
        InvalidRequest: it is not of this form, or too long.
    """
    given = (header or "").strip()
    if len(given) > MAX_METADATA:
        raise _refused(f"has more than {MAX_METADATA} characters")
    found: dict[str, str] = {}
    for pair in filter(None, (pair.strip() for pair in given.split(","))):
        key, _, value = pair.partition(" ")
        if not _KEY.fullmatch(key) or key in found:
            raise _refused(f"has the key {key[:100]!r}, which is empty, not ASCII or there twice")
        _decode(key, value.strip())
        found[key] = value.strip()
    if len(found) > MAX_PAIRS:
        raise _refused(f"has more than {MAX_PAIRS} pairs")
    return found


def file_name_of(metadata: dict[str, str]) -> str | None:
    """Return what the client calls the file, if it says so."""
    values = (_decode(key, metadata[key]) for key in _NAMES if key in metadata)
    return next((name for value in values if (name := clean_file_name(value.decode("utf-8", "replace")))), None)


def read_checksum(header: str | None) -> Checksum | None:
    """Read `Upload-Checksum`: an algorithm and a digest in base64.

    Raises:
        InvalidRequest: it is not of this form, or of an algorithm that is not supported.
    """
    if header is None:
        return None
    algorithm, _, value = header.strip().partition(" ")
    if algorithm not in ALGORITHMS:
        raise InvalidRequest(
            f"Upload-Checksum is of {algorithm[:50]!r}: use {', '.join(ALGORITHMS)}", param="Upload-Checksum"
        )
    try:
        expected = base64.b64decode(value.strip(), validate=True)
    except binascii.Error:
        expected = b""
    if len(expected) != ALGORITHMS[algorithm]:
        raise InvalidRequest(
            f"Upload-Checksum is not a {algorithm} in base64: write the algorithm, a space, and the digest",
            param="Upload-Checksum",
        )
    return Checksum(algorithm, expected)


def check_content_type(given: str | None) -> None:
    """Check that a body is what tus sends.

    Raises:
        UnsupportedMedia: it is something else.
    """
    if (given or "").partition(";")[0].strip().lower() != CONTENT_TYPE:
        raise UnsupportedMedia(
            f"Content-Type is {(given or '')[:100]!r}: send the bytes of an upload as {CONTENT_TYPE}"
        )


def describe(upload: Upload) -> dict[str, str]:
    """Return the headers that say how far an upload has come."""
    headers = {"Upload-Offset": str(upload.offset_bytes), "Cache-Control": "no-store"}
    if upload.size_bytes is None:
        headers["Upload-Defer-Length"] = "1"
    else:
        headers["Upload-Length"] = str(upload.size_bytes)
    if upload.details:
        headers["Upload-Metadata"] = ",".join(f"{key} {value}".strip() for key, value in upload.details.items())
    return headers | expiry_of(upload)


def expiry_of(upload: Upload) -> dict[str, str]:
    """Return the header that says when an upload expires, if it does."""
    return {} if upload.expires_at is None else {"Upload-Expires": formatdate(upload.expires_at, usegmt=True)}


def _decode(key: str, value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as exc:
        raise _refused(f"has a value of {key[:100]!r} that is not base64") from exc


def _refused(why: str) -> InvalidRequest:
    return InvalidRequest(
        f"Upload-Metadata {why}: write `key value` pairs with commas between them, each value in base64",
        param="Upload-Metadata",
    )
