from __future__ import annotations

from collections.abc import Iterator

import pytest

from api.downloads.ranges import RangeRequest, cut_out
from trainyard.errors import BeyondTheEnd

TAG = '"abc"'


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-", range(100)),
        ("bytes=10-19", range(10, 20)),
        ("BYTES = 10-19", range(10, 20)),
        ("bytes=99-99", range(99, 100)),
        ("bytes=90-500", range(90, 100)),
        ("bytes=-10", range(90, 100)),
        ("bytes=-500", range(100)),
        (None, None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=20-10", None),
        ("bytes=0-9,20-29", None),
        ("lines=0-9", None),
        ("bytes=a-b", None),
        ("bytes=" + "9" * 5000 + "-", None),
    ],
)
def test_a_range_is_understood_or_all_is_sent(header: str | None, expected: range | None) -> None:
    assert RangeRequest(header).find(100, TAG) == expected


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_range_beyond_the_end_is_refused_with_the_size(header: str) -> None:
    with pytest.raises(BeyondTheEnd, match="100 bytes") as caught:
        RangeRequest(header).find(100, TAG)
    assert caught.value.size_bytes == 100


@pytest.mark.parametrize("condition", ['"another"', 'W/"abc"', "Mon, 30 Nov 2026 10:00:00 GMT"])
def test_all_is_sent_where_the_client_has_bytes_of_another_file(condition: str) -> None:
    assert RangeRequest("bytes=10-", condition).find(100, TAG) is None
    assert RangeRequest("bytes=200-", condition).find(100, TAG) is None
    assert RangeRequest("bytes=10-", TAG).find(100, TAG) == range(10, 100)


@pytest.mark.parametrize("start", [0, 1, 9, 10, 11, 25, 29])
@pytest.mark.parametrize("size", [1, 5, 10, 11, 30])
def test_a_part_is_cut_out_of_pieces(start: int, size: int) -> None:
    content = bytes(range(30))
    pieces = [content[at : at + 10] for at in (0, 10, 20)]
    found = b"".join(cut_out(iter(pieces), range(start, min(30, start + size))))
    assert found == content[start : start + size]


def test_nothing_is_read_behind_the_part() -> None:
    read: list[int] = []

    def pieces() -> Iterator[bytes]:
        for number in range(10):
            read.append(number)
            yield bytes(10)

    assert b"".join(cut_out(pieces(), range(5, 20))) == bytes(15)
    assert read == [0, 1]
