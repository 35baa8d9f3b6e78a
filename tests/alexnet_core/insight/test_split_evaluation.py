"""An evaluation that is made from answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alexnet_core.insight import split_evaluation
from alexnet_core.insight.split_answers import SplitAnswers
from alexnet_core.insight.split_evaluation import evaluate_answers
from tests.alexnet_core.toy import write_toy_pack


def make(num: int) -> SplitAnswers:
    generator = np.random.default_rng(0)
    return SplitAnswers(
        positions=np.arange(130, 130 + num),
        labels=generator.integers(0, 3, num),
        guesses=np.argsort(generator.random((num, 3)), axis=1).astype(np.int32),
        probabilities=np.full((num, 3), 1 / 3, np.float32),
        losses=generator.random(num).astype(np.float32),
    )


def test_it_says_what_the_answers_say(tmp_path: Path) -> None:
    pack, answers = write_toy_pack(tmp_path / "toy"), make(30)
    found = evaluate_answers(answers, pack, epoch=2, weights_sha256="a", chosen_on="test")
    assert (found.num_images, found.epoch, found.validated_on_test) == (30, 2, True)
    assert (found.top1, found.loss) == (answers.top(1), answers.loss)
    assert np.array_equal(found.confusion or [], answers.count_pairs(3))
    assert found.hardest[0].loss == float(answers.losses.max())
    assert found.hardest[0].label == pack.class_names[pack.labels[found.hardest[0].position]]


def test_a_split_without_images_has_no_accuracy(tmp_path: Path) -> None:
    found = evaluate_answers(make(0), write_toy_pack(tmp_path / "toy"), epoch=1, weights_sha256="a", chosen_on="none")
    assert (found.num_images, found.top1, found.confusion, found.hardest) == (0, None, None, ())


def test_pairs_of_very_many_classes_are_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split_evaluation, "MAX_COUNTED_CLASSES", 2)
    found = evaluate_answers(make(9), write_toy_pack(tmp_path / "toy"), epoch=1, weights_sha256="a", chosen_on="none")
    assert (found.classes, found.confusion, found.confused) == ([], None, [])
    assert found.top1 is not None
