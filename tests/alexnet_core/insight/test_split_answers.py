"""What is known of a split's answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alexnet_core.insight.split_answers import SplitAnswers


def make() -> SplitAnswers:
    return SplitAnswers(
        positions=np.array([3, 4, 8, 9]),
        labels=np.array([0, 1, 1, 0]),
        guesses=np.array([[0, 1], [0, 1], [1, 0], [1, 0]], np.int32),
        probabilities=np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.5, 0.5]], np.float32),
        losses=np.array([0.1, 0.9, 0.3, np.nan], np.float32),
    )


def test_images_are_selected_by_their_true_and_predicted_class() -> None:
    answers = make()
    assert answers.select(label=1, predicted=0, order="loss").tolist() == [1]
    assert answers.select(label=None, predicted=1, order="index").tolist() == [2, 3]
    assert answers.select(label=0, predicted=None, order="index").tolist() == [0, 3]


def test_the_hardest_come_first_and_a_loss_that_is_no_number_is_the_hardest() -> None:
    answers = make()
    assert answers.select(label=None, predicted=None, order="loss").tolist() == [3, 1, 2, 0]
    assert answers.select(label=None, predicted=None, order="-loss").tolist() == [0, 2, 1, 3]


def test_it_counts_and_names() -> None:
    answers = make()
    assert (answers.top(1), answers.top(2)) == (0.5, 1.0)
    assert answers.count_pairs(2).tolist() == [[1, 1], [1, 1]]
    guesses = answers.list_guesses(1, ("cat", "dog"))
    assert [(one.label, one.index) for one in guesses] == [("cat", 0), ("dog", 1)]
    assert guesses[0].probability == pytest.approx(0.6)


def test_it_survives_being_written_and_read(tmp_path: Path) -> None:
    make().save(tmp_path / "answers.npz")
    found = SplitAnswers.load(tmp_path / "answers.npz")
    assert found.losses.tolist()[:3] == make().losses.tolist()[:3]
    (tmp_path / "cut.npz").write_bytes((tmp_path / "answers.npz").read_bytes()[:200])
    with pytest.raises(ValueError, match=r"cut.npz is damaged"):
        SplitAnswers.load(tmp_path / "cut.npz")
