"""A form with one file, as it arrives; and what clients get wrong or do on purpose."""

from __future__ import annotations

import time

import pytest

from api.uploads.forms import MAX_FIELDS, UploadForm
from trainyard.errors import BodyUnreadable, InvalidRequest

TYPE = "multipart/form-data; boundary=XX"


def part(headers: str, content: bytes = b"") -> bytes:
    return b"--XX\r\n" + headers.encode() + b"\r\n\r\n" + content + b"\r\n"


def file_part(content: bytes = b"data", more: str = "") -> bytes:
    return part(f'Content-Disposition: form-data; name="file"; filename="a.zip"{more}', content)


def field_part(name: str, value: bytes = b"1") -> bytes:
    return part(f'Content-Disposition: form-data; name="{name}"', value)


END = b"--XX--\r\n"
NESTED = file_part(more="\r\nContent-Type: multipart/mixed; boundary=YY") + END

#: Forms that read well, and are not what the route takes: 422.
UNACCEPTABLE = {
    "no-file": (field_part("name") + END, "there is no file"),
    "nothing": (END, "there is no file"),
    "file-is-a-field": (field_part("file") + END, "is not a file"),
    "another-file": (
        file_part() + part('Content-Disposition: form-data; name="b"; filename="b"') + END,
        "one file only",
    ),
}
#: What is no form, or more of one than any client writes: 400.
MALFORMED = {
    "two-files": (file_part() + file_part() + END, "two files"),
    "twice": (field_part("name") + field_part("name") + file_part() + END, "comes twice"),
    "not-utf8": (field_part("name", b"\xff") + file_part() + END, "not UTF-8"),
    "large-field": (field_part("name", b"x" * 9000) + file_part() + END, "more than 8192 bytes"),
    "nameless": (part("Content-Disposition: form-data") + file_part() + END, "no name"),
    "no-disposition": (part("X-Nothing: 1") + file_part() + END, "no name"),
    "long-name": (field_part("n" * 101) + file_part() + END, "over 100 characters"),
    "nested": (NESTED, "a form of its own"),
    "ten-thousand-parts": (
        b"".join(field_part(f"f{n}") for n in range(10_000)) + file_part() + END,
        f"more than {MAX_FIELDS} fields",
    ),
    "cut-in-file": (file_part()[:-2], "before its last boundary"),
    "cut-at-end": (file_part(), "before its last boundary"),
    "empty": (b"", "before its last boundary"),
    "megabyte-header": (part("X-Large: " + "a" * 2**20) + file_part() + END, "damaged"),
    "thousand-headers": (part("\r\n".join(f"X-{n}: 1" for n in range(1000))) + file_part() + END, "damaged"),
    "preamble": (b"x" * 5000 + b"\r\n" + file_part() + END, "damaged"),
    "megabyte-of-line-ends": (b"\r\n" * 2**19 + file_part() + END, "empty lines"),
    "other-boundary": (b"--YY\r\n" + file_part() + END, "damaged"),
    "epilogue": (file_part() + END + b"x" * 2**20, "goes on"),
}


def read(body: bytes, content_type: str = TYPE, step: int = 65536) -> tuple[bytes, UploadForm]:
    form = UploadForm(content_type)
    pieces = [bytes(piece) for at in range(0, len(body), step) for piece in form.feed(body[at : at + step])]
    form.finish()
    return b"".join(pieces), form


@pytest.mark.parametrize("step", [1, 3, 7, 64, 65536])
def test_the_file_and_the_fields_are_found_however_the_body_is_cut(step: int) -> None:
    tricky = b"\r\n--X\r\n--XY--\r\n\r\r\n-" * 50 + b"\r\n--X"
    body = field_part("name", "blümen".encode()) + file_part(tricky) + field_part("image_px", b"32") + END
    content, form = read(body, step=step)
    assert content == tricky
    assert form.fields == {"name": "blümen", "image_px": "32"}
    assert form.file_name == "a.zip"


@pytest.mark.parametrize(("body", "told"), UNACCEPTABLE.values(), ids=UNACCEPTABLE)
def test_a_form_that_brings_no_file_is_refused(body: bytes, told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        read(body)


@pytest.mark.parametrize(("body", "told"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_form_is_refused_cheaply(body: bytes, told: str) -> None:
    began = time.process_time()
    with pytest.raises(BodyUnreadable, match=told):
        read(body)
    assert time.process_time() - began < 0.1


@pytest.mark.parametrize("step", [1, 4096])
def test_a_few_line_ends_may_come_before_the_first_boundary(step: int) -> None:
    assert read(b"\r\n" * 2 + file_part(b"\r\n" * 5000) + END, step=step)[0] == b"\r\n" * 5000


@pytest.mark.parametrize(
    ("content_type", "told"),
    [
        ("multipart/form-data", "no boundary"),
        ("multipart/form-data; boundary=", "no boundary"),
        ("multipart/form-data; boundary=" + "b" * 10_000, "can't be used"),
    ],
)
def test_a_type_without_a_usable_boundary_is_refused(content_type: str, told: str) -> None:
    with pytest.raises(BodyUnreadable, match=told):
        UploadForm(content_type)


@pytest.mark.parametrize(
    ("given", "shown"),
    [("../../x.zip", "x.zip"), ("C:\\a\\x.zip", "x.zip"), ("\u202egpj.zip", "gpj.zip"), ("", None), ("/", None)],
)
def test_the_file_s_name_is_text(given: str, shown: str | None) -> None:
    escaped = given.replace("\\", "\\\\")
    body = part(f'Content-Disposition: form-data; name="file"; filename="{escaped}"', b"x") + END
    assert read(body)[1].file_name == shown


def test_a_megabyte_of_almost_boundaries_is_read_fast() -> None:
    content = b"\r\n--X" * 200_000
    began = time.process_time()
    assert read(file_part(content) + END)[0] == content
    assert time.process_time() - began < 5
