from __future__ import annotations

from contextlib import ExitStack

import pytest

from api.uploads.shares import OwnerShares
from trainyard.errors import TooManyUploads


def test_one_owner_leaves_a_quarter_of_the_places_to_the_others() -> None:
    shares = OwnerShares(16)
    with ExitStack() as sent:
        for _ in range(12):
            sent.enter_context(shares.taking("greedy"))
        with pytest.raises(TooManyUploads, match="12 files") as refused, shares.taking("greedy"):
            pass
        assert refused.value.retry_after_s == 5
        for _ in range(4):
            sent.enter_context(shares.taking("other"))
    with shares.taking("greedy"):
        pass


@pytest.mark.parametrize(("places", "most"), [(1, 1), (2, 2), (3, 3), (4, 3)])
def test_few_places_can_all_be_one_owners(places: int, most: int) -> None:
    assert OwnerShares(places).most_of_one == most


def test_a_body_that_breaks_off_gives_its_place_back() -> None:
    shares = OwnerShares(1)
    with pytest.raises(ConnectionError), shares.taking("a"):
        raise ConnectionError
    with shares.taking("a"):
        pass
