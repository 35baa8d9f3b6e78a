from __future__ import annotations

from pathlib import Path

import pytest

from trainyard.jobs.job_log import read_tail
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
