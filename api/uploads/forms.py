"""Finds the file in a multipart form while the form arrives. Its fields are few and small; the rest is refused.

What is no such form is malformed, and `BodyUnreadable`. A form that reads well but brings no file is `InvalidRequest`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from api.http.image_bodies import MOST_AROUND
from api.uploads.file_names import clean_file_name
from trainyard.errors import BodyUnreadable, InvalidRequest

FILE = "file"
MAX_FIELDS = 32
MAX_FIELD_BYTES = 8 * 1024
MAX_NAME = 100


@dataclass
class _Part:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    name: str = ""
    is_file: bool = False
    content: bytearray = field(default_factory=bytearray)  #: of a field


class UploadForm:
    """A multipart form with one `file` and a few fields, fed with what arrives."""

    def __init__(self, content_type: str) -> None:
        """Make it for a body with this Content-Type.

        Raises:
            BodyUnreadable: the Content-Type names no boundary, or an impossible one.
        """
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if not boundary:
            raise BodyUnreadable("the Content-Type of the form names no boundary: let your HTTP client write it")
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as exc:
            raise BodyUnreadable(f"the boundary of the form can't be used: {exc}") from exc
        self.fields: dict[str, str] = {}
        self.file_name: str | None = None
        self._has_begun = self._has_file = self._has_ended = False
        self._before_begin = self._after_end = 0
        self._part = _Part()
        self._header = (bytearray(), bytearray())
        self._found: list[memoryview] = []

    def feed(self, data: bytes) -> Iterator[memoryview]:
        """Yield what a piece of the body holds of the file.

        Raises:
            BodyUnreadable: the form is damaged, or has more or larger fields than a form may have, or one twice.
            InvalidRequest: a file is none, or has another name than `file`.
        """
        if not self._has_begun:
            begin = data.lstrip(b"\r\n")  # the parser skips any number of them
            self._has_begun = len(begin) > 0
            self._before_begin += len(data) - len(begin)
            if self._before_begin > MOST_AROUND:
                raise BodyUnreadable("the form begins with empty lines: send nothing before the first boundary")
        if self._has_ended:
            self._after_end += len(data)
            if self._after_end > MOST_AROUND:
                raise BodyUnreadable("the form has ended, and the body goes on: send nothing after the last boundary")
            return
        try:
            self._parser.write(data)
        except FormParserError as exc:
            raise BodyUnreadable("the form is damaged: let your HTTP client write it") from exc
        found, self._found = self._found, []
        yield from found

    def finish(self) -> None:
        """Check at the body's end that all of the form has come.

        Raises:
            BodyUnreadable: its end is missing.
            InvalidRequest: its file is missing.
        """
        if not self._has_ended:
            raise BodyUnreadable("the form ends before its last boundary: send all of it")
        if not self._has_file:
            raise InvalidRequest("there is no file: send the archive as multipart field `file`", param=FILE)

    # --- what the parser calls ---

    def _on_part_begin(self) -> None:
        self._part = _Part()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header[0].extend(data[start:end])

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1].extend(data[start:end])

    def _on_header_end(self) -> None:
        name, value = self._header
        self._part.headers[bytes(name).lower()] = bytes(value)
        self._header = (bytearray(), bytearray())

    def _on_headers_finished(self) -> None:
        part = self._part
        _, options = parse_options_header(part.headers.get(b"content-disposition", b""))
        part.name = _decode(options.get(b"name", b""), "the name of a field")
        if not part.name or len(part.name) > MAX_NAME:
            raise BodyUnreadable(f"a field of the form has no name, or one of over {MAX_NAME} characters")
        if part.name != FILE:
            if b"filename" in options:
                raise InvalidRequest(f"{part.name!r} is a file: send one file only, as `file`", param=part.name)
            if part.name in self.fields:
                raise BodyUnreadable(f"the field {part.name!r} comes twice: send it once", param=part.name)
            if len(self.fields) >= MAX_FIELDS:
                raise BodyUnreadable(f"the form has more than {MAX_FIELDS} fields: send fewer")
            return
        if self._has_file:
            raise BodyUnreadable("the form has two files: send one, an archive of all", param=FILE)
        if b"filename" not in options:
            raise InvalidRequest("`file` is not a file: with curl, write -F file=@NAME", param=FILE)
        if part.headers.get(b"content-type", b"").lower().startswith(b"multipart/"):
            raise BodyUnreadable("`file` is a form of its own: send the archive itself", param=FILE)
        part.is_file = self._has_file = True
        self.file_name = clean_file_name(options[b"filename"].decode("utf-8", "replace"))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part.is_file:
            self._found.append(memoryview(data)[start:end])
            return
        if len(self._part.content) + end - start > MAX_FIELD_BYTES:
            raise BodyUnreadable(
                f"the field {self._part.name!r} has more than {MAX_FIELD_BYTES} bytes: send less", param=self._part.name
            )
        self._part.content.extend(data[start:end])

    def _on_part_end(self) -> None:
        if not self._part.is_file:
            self.fields[self._part.name] = _decode(bytes(self._part.content), f"the field {self._part.name!r}")

    def _on_end(self) -> None:
        self._has_ended = True


def _decode(data: bytes, what: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        raise BodyUnreadable(f"{what} is not UTF-8") from exc
