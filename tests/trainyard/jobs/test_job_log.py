from __future__ import annotations

from pathlib import Path

import pytest

from trainyard.errors import BeyondTheEnd
from trainyard.jobs.job_log import LogPiece, read_end, read_from, read_tail
from trainyard.storage.local import LocalStorage


@pytest.mark.parametrize(
    ("text", "lines", "tail"),
    [
        (b"", 5, b""),
        (b"one\ntwo\nthree\n", 2, b"two\nthree\n"),
        (b"one\ntwo\nhalf", 2, b"two\nhalf"),
        (b"one\n\n\n", 2, b"\n\n"),
        (b"a\rb\rc\nd\n", 1, b"d\n"),
        (b"one\ntwo\n", 9, b"one\ntwo\n"),
    ],
)
def test_the_last_lines(tmp_path: Path, text: bytes, lines: int, tail: bytes) -> None:
    (tmp_path / "log").write_bytes(text)
    assert read_tail(LocalStorage(tmp_path), "log", lines=lines) == tail


def test_lines_longer_than_a_block_and_a_line_without_end(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"".join(b"%d " % i + b"x" * 100_000 + b"\n" for i in range(20)))
    assert [line[:3] for line in read_tail(LocalStorage(tmp_path), "log", lines=3).splitlines()] == [
        b"17 ",
        b"18 ",
        b"19 ",
    ]
    file.write_bytes(b"y" * 300_000)
    assert len(read_tail(LocalStorage(tmp_path), "log", lines=3, max_bytes=150_000)) == 150_000


def test_no_log_and_a_link(tmp_path: Path) -> None:
    assert read_tail(LocalStorage(tmp_path), "none", lines=3) == b""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    assert read_tail(LocalStorage(tmp_path), "link", lines=3) == b""
    with pytest.raises(OSError, match="symbolic links"):
        LocalStorage(tmp_path).read_stream("link", 0, 6)


def test_a_log_is_followed_without_a_gap_or_a_repetition(tmp_path: Path) -> None:
    """In pieces that cut characters of two, three and four bytes, while it grows."""
    text = "größe 7 €\repoch 🚂 1\n".encode() * 5
    storage, place, read = LocalStorage(tmp_path), 0, b""
    for end in range(len(text) + 1):
        (tmp_path / "log").write_bytes(text[:end])
        piece = read_from(storage, "log", place, max_bytes=7)
        piece.data.decode()  # whole characters only
        assert piece.next_byte == place + len(piece.data)
        place, read = piece.next_byte, read + piece.data
    while (piece := read_from(storage, "log", place, max_bytes=7)).data:
        place, read = piece.next_byte, read + piece.data
    assert (read, place) == (text, len(text))


def test_bytes_that_are_no_text_hold_up_nobody(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    for text in (b"\xff\xff\xff\xff", b"a\x80\x80\x80\x80\x80", b"a\xc0", b"\xf5"):
        (tmp_path / "log").write_bytes(text)
        assert read_from(storage, "log", 0) == LogPiece(text, len(text))


def test_where_the_end_goes_on(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    assert read_end(storage, "log", lines=3) == LogPiece(b"", 0)
    (tmp_path / "log").write_bytes(b"one\ntwo\nthree \xe2\x82")  # a third of a character is to come
    assert read_end(storage, "log", lines=2) == LogPiece(b"two\nthree ", 14)
    assert read_from(storage, "log", 14) == LogPiece(b"", 14)


def test_beyond_the_end_there_is_nothing(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    assert read_from(storage, "log", 0) == LogPiece(b"", 0)
    with pytest.raises(BeyondTheEnd, match="0 bytes"):
        read_from(storage, "log", 1)
    (tmp_path / "log").write_bytes(b"one\n")
    assert read_from(storage, "log", 4) == LogPiece(b"", 4)
    with pytest.raises(BeyondTheEnd, match="4 bytes"):
        read_from(storage, "log", 5)
