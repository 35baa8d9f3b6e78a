from __future__ import annotations

import gc

from api.serving.batch_sizes import (
    BATCH_S,
    LONG_AFTER_S,
    LONG_BATCH_S,
    Demand,
    most_within,
    round_batch_down,
    round_batch_up,
)


class Network:
    """Stands for a model."""


def test_a_batch_grows_by_less_than_a_quarter() -> None:
    for images in range(1, 2000):
        assert images <= round_batch_up(images) < 1.25 * images


def test_the_size_below_is_the_next_one_that_is_computed_without_waste() -> None:
    sizes = sorted({round_batch_up(images) for images in range(1, 2000)})
    for images in range(1, 2000):
        assert round_batch_down(images) == max(size for size in sizes if size <= images)


def test_as_many_are_computed_as_fit_into_the_time_but_none_in_vain() -> None:
    assert most_within(0.06, 0.0031, 64) == 16, "19 would be computed as 20"
    assert most_within(0.06, 0.5, 64) == 1
    assert most_within(0.06, 0.0001, 64) == 64
    assert most_within(0.06, 0, 48) == 48, "nobody knows yet how long it takes"


def test_batches_are_long_while_one_model_alone_is_asked_for() -> None:
    demand, one, other = Demand(), Network(), Network()
    demand.note(one, 100)
    demand.note(one, 101)
    assert demand.longest_batch_s(101) == LONG_BATCH_S
    demand.note(other, 102)
    assert demand.longest_batch_s(102) == BATCH_S
    assert demand.longest_batch_s(102 + LONG_AFTER_S - 0.1) == BATCH_S
    assert demand.longest_batch_s(102 + LONG_AFTER_S) == LONG_BATCH_S
    demand.note(one, 200)
    assert demand.longest_batch_s(200) == BATCH_S


def test_a_model_is_not_kept_and_one_that_comes_after_it_is_another() -> None:
    demand, kept = Demand(), [Network()]
    demand.note(kept[0], 1)
    kept.clear()
    gc.collect()
    assert demand._model is not None
    assert demand._model() is None
    demand.note(Network(), 50)
    assert demand.longest_batch_s(51) == BATCH_S
