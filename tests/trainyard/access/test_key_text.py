"""What a key looks like."""

from __future__ import annotations

import pytest

from trainyard.access.key_text import digest_of, draw_key_text, find_prefix, is_same

PREFIX, END = "ty_0123456789ab", "x" * 43


def test_a_key_begins_with_its_prefix_and_no_two_are_the_same() -> None:
    drawn = [draw_key_text() for _ in range(200)]
    assert len({key.text for key in drawn}) == len({key.prefix for key in drawn}) == 200
    for key in drawn:
        assert find_prefix(key.text) == key.prefix
        assert len(key.text) == len(key.prefix) + 1 + 43
        assert is_same(key.digest, digest_of(key.text))
        assert key.text not in repr(key)
        assert key.text[16:] not in repr(key)


@pytest.mark.parametrize(
    "text",
    ["", "ty_", PREFIX, f"{PREFIX}_", f"TY_0123456789ab_{END}", f"{PREFIX}_{END[1:]}", f"{PREFIX}_{END}x", "k" * 60,
     f"ty_0123456789aU_{END}", f"{PREFIX}_{END}\n"],
)  # fmt: skip
def test_what_has_another_form_is_no_key(text: str) -> None:
    assert find_prefix(text) is None
