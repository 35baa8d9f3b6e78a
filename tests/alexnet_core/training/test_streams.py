"""The numbers behind every run's bits: they are the same for ever."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from alexnet_core.training.streams import Stream, draw_in_epoch, seed_torch


def test_a_stream_keeps_its_number() -> None:
    """One that changed would change the bits of every run that is resumed."""
    assert {stream.name: int(stream) for stream in Stream} == {
        "ORDER": 1, "MOVES": 2, "DROPOUT": 3, "FIRST_WEIGHTS": 4, "CROPS_AND_COLOURS": 5, "ERASING": 6,
        "RESIZED_CROPS": 7,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "seed"),
    [
        ((7, Stream.FIRST_WEIGHTS), 6355185125837863469),
        ((7, Stream.DROPOUT, 12), 3461307021533076983),
        ((7, Stream.DROPOUT, 12, 1), 927951227322819389),
    ],
)
def test_torchs_seeds_are_these(arguments: tuple[int, Stream, int, int], seed: int) -> None:
    assert seed_torch(*arguments) == seed


def test_an_epochs_draws_are_these() -> None:
    assert draw_in_epoch(7, Stream.ORDER, 3).permutation(8).tolist() == [5, 4, 2, 6, 0, 7, 3, 1]
    drawn = draw_in_epoch(7, Stream.MOVES, 0).random(2, dtype=np.float32)
    assert drawn.tolist() == [0.9739990234375, 0.030095577239990234]


def test_nothing_is_drawn_twice() -> None:
    epochs = [
        tuple(draw_in_epoch(seed, stream, epoch).integers(0, 2**62, 2).tolist())
        for seed, stream, epoch in itertools.product((0, 1, 2**40), Stream, range(20))
    ]
    seeds = [
        seed_torch(seed, stream, index, rank)
        for seed, stream, index, rank in itertools.product((0, 1, 2**40), Stream, range(20), range(3))
    ]
    for drawn in (epochs, seeds):
        assert len(set(drawn)) == len(drawn)


def test_a_seed_fits_torchs_generator() -> None:
    assert all(0 <= seed_torch(2**63 - 1, Stream.DROPOUT, step, 3) < 2**63 for step in range(1000))
