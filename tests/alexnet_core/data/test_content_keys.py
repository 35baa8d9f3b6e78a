"""Images with the same content are found, in the order in which they are there."""

from __future__ import annotations

import numpy as np
import pytest

from alexnet_core.data.content_keys import KEY_BYTES, Copies, content_key


def test_a_key_tells_contents_apart_and_nothing_else() -> None:
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert len(content_key(image)) == KEY_BYTES
    assert content_key(image) == content_key(np.asfortranarray(image))
    assert content_key(image) != content_key(image[::-1])


@pytest.mark.parametrize("num_contents", [1, 7, 300])
def test_copies_are_grouped_in_the_order_of_their_first_image(num_contents: int) -> None:
    generator = np.random.default_rng(num_contents)
    contents = [generator.integers(0, 256, KEY_BYTES).astype(np.uint8).tobytes() for _ in range(num_contents)]
    contents[0] = b"\0" * KEY_BYTES
    keys = [contents[number] for number in generator.integers(0, num_contents, 500)]
    expected: dict[bytes, list[int]] = {}
    for position, key in enumerate(keys):
        expected.setdefault(key, []).append(position)
    copies = Copies(b"".join(keys))
    assert [copies.members(group) for group in range(len(copies.first))] == list(expected.values())
    assert copies.first.tolist() == [group[0] for group in expected.values()]
    repeated = [copies.members(group) for group in copies.list_repeated()]
    assert repeated == [group for group in expected.values() if len(group) > 1]


def test_no_images_are_no_groups() -> None:
    assert Copies(b"").first.tolist() == Copies(b"").list_repeated() == []
