"""The report: its numbers are those of `evaluate`, of scikit-learn and of the predictor."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from torch import nn

from alexnet_core.data.file_names import write_file_names
from alexnet_core.data.pack import Pack, open_pack
from alexnet_core.evaluation.evaluate import evaluate
from alexnet_core.evaluation.predictor import Predictor
from alexnet_core.evaluation.report import report_on, to_table
from alexnet_core.evaluation.scores import EvaluationReport
from alexnet_core.network.model import AlexNet, build_model
from alexnet_core.network.preprocess import Preprocessing
from tests.alexnet_core.networks import layer_of
from tests.alexnet_core.toy import CONFIG, write_toy_pack


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return write_toy_pack(tmp_path_factory.mktemp("packs") / "toy")


@pytest.fixture(scope="module")
def preprocessing(pack: Pack) -> Preprocessing:
    return Preprocessing.of(CONFIG.with_overrides({"resize_px": 16}), pack)


@pytest.fixture(scope="module")
def model(pack: Pack, preprocessing: Preprocessing) -> AlexNet:
    """Untrained, but it names every class now and then: no class has a head start."""
    torch.manual_seed(1)
    model = build_model(CONFIG, 3, 1)
    fc8 = layer_of(model, "classifier.fc8", nn.Linear)
    with torch.no_grad():
        x_BCHW = preprocessing.to_input(torch.from_numpy(np.array(pack.images)))
        for _ in range(40):  # until the batch norms know the images
            model(x_BCHW)
        logits_BK = model.eval()(x_BCHW)
        fc8.weight.mul_(4 / logits_BK.std(dim=0)[:, None])
        fc8.bias.zero_()
        fc8.bias.sub_(model(x_BCHW).mean(dim=0))
    return model


@pytest.mark.parametrize("crops", [1, 10])
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_loss_and_accuracy_are_exactly_those_of_evaluate(
    model: AlexNet, pack: Pack, preprocessing: Preprocessing, split: Any, crops: Any
) -> None:
    report = report_on(model, pack, split, preprocessing, batch_size=32, crops=crops)
    expected = evaluate(model, pack, split, preprocessing, batch_size=32, crops=crops)
    assert {name: getattr(report, name) for name in ("loss", "top1", "top5", "num_images")} == expected
    assert (report.split, report.crops) == (split, crops)


def test_matrix_and_class_scores_are_those_of_scikit_learn(
    model: AlexNet, pack: Pack, preprocessing: Preprocessing
) -> None:
    report = report_on(model, pack, "train", preprocessing, batch_size=7)
    true, guessed = guesses_of_the_predictor(model, pack, preprocessing, 0)
    assert len(set(guessed)) == 3
    assert report.confusion == confusion_matrix(true, guessed, labels=range(3)).tolist()
    expected = precision_recall_fscore_support(true, guessed, labels=range(3))
    found = [[c.precision, c.recall, c.f1, c.support] for c in report.classes]
    np.testing.assert_allclose(np.array(found, dtype=float).T, expected)
    assert [c.predicted for c in report.classes] == np.bincount(guessed, minlength=3).tolist()


def guesses_of_the_predictor(
    model: AlexNet, pack: Pack, preprocessing: Preprocessing, split: int
) -> tuple[list[int], list[int]]:
    predictor = Predictor(model, preprocessing, pack.class_names, {})
    positions = np.flatnonzero(pack.split == split)
    answers = predictor.predict([pack.images[position] for position in positions])
    return pack.labels[positions].tolist(), [predictions[0].index for predictions in answers]


def test_the_hardest_images_are_those_with_the_least_probable_truth_and_told_as_the_predictor_would(
    model: AlexNet, pack: Pack, preprocessing: Preprocessing
) -> None:
    report = report_on(model, pack, "train", preprocessing, batch_size=8, num_hardest=9)
    predictor = Predictor(model, preprocessing, pack.class_names, {})
    answers = predictor.predict([pack.images[position] for position in range(100)])
    of_truth = [
        next(p.probability for p in predictions if p.index == label)
        for predictions, label in zip(answers, pack.labels[:100].tolist(), strict=True)
    ]
    assert [image.position for image in report.hardest] == np.argsort(of_truth, kind="stable")[:9].tolist()
    for image in report.hardest:
        expected = answers[image.position]
        assert [guess.label for guess in image.guesses] == [p.label for p in expected]
        assert [guess.probability for guess in image.guesses] == pytest.approx(
            [p.probability for p in expected], abs=1e-6
        )
        assert image.predicted == image.guesses[0]
        assert image.true.index == pack.labels[image.position]
        assert image.true.probability == pytest.approx(of_truth[image.position], abs=1e-6)
        assert image.loss == pytest.approx(-np.log(of_truth[image.position]), rel=1e-4)


def test_positions_count_in_the_whole_pack(model: AlexNet, pack: Pack, preprocessing: Preprocessing) -> None:
    report = report_on(model, pack, "test", preprocessing, num_hardest=100)
    assert sorted(image.position for image in report.hardest) == list(range(130, 160))


def test_of_equally_hard_images_the_first_are_named(pack: Pack, preprocessing: Preprocessing) -> None:
    model = build_model(CONFIG, 3, 1)
    fc8 = layer_of(model, "classifier.fc8", nn.Linear)
    with torch.no_grad():
        fc8.weight.zero_()
        fc8.bias.zero_()
    report = report_on(model, pack, "validation", preprocessing, batch_size=4, num_hardest=5)
    assert [image.position for image in report.hardest] == [100, 101, 102, 103, 104]


def test_a_class_that_is_never_guessed_or_not_there_has_no_invented_numbers(
    pack: Pack, preprocessing: Preprocessing
) -> None:
    model = build_model(CONFIG, 3, 1)
    fc8 = layer_of(model, "classifier.fc8", nn.Linear)
    with torch.no_grad():
        fc8.weight.zero_()
        fc8.bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
    without_c = dataclasses.replace(pack, labels=np.minimum(pack.labels, 1))
    a, b, c = report_on(model, without_c, "test", preprocessing).classes
    assert (a.recall, a.predicted) == (1.0, 30)
    assert (b.precision, b.recall, b.f1) == (None, 0.0, 0.0)
    assert (c.precision, c.recall, c.f1, c.support) == (None, None, None, 0)


def test_an_empty_split_gives_an_empty_report(model: AlexNet, pack: Pack, preprocessing: Preprocessing) -> None:
    nothing = dataclasses.replace(pack, split=np.zeros_like(pack.split))
    report = report_on(model, nothing, "test", preprocessing)
    assert (report.num_images, report.loss, report.hardest) == (0, 0.0, [])
    assert "0 images" in to_table(report)


class Watched:
    """Images that remember the most that was asked for at once."""

    def __init__(self, images: np.ndarray) -> None:
        self.images, self.most = images, 0

    def __getitem__(self, chosen: np.ndarray) -> np.ndarray:
        self.most = max(self.most, len(chosen))
        images: np.ndarray = self.images[chosen]
        return images


def test_images_are_read_a_batch_at_a_time(model: AlexNet, pack: Pack, preprocessing: Preprocessing) -> None:
    watched = Watched(pack.images)
    images: Any = watched  # all that is asked of an array
    report_on(model, dataclasses.replace(pack, images=images), "train", preprocessing, batch_size=16)
    assert watched.most == 16


def test_the_model_is_left_as_it_was(model: AlexNet, pack: Pack, preprocessing: Preprocessing) -> None:
    for training in (True, False):
        report_on(model.train(training), pack, "test", preprocessing)
        assert model.training is training


def test_a_report_survives_json(model: AlexNet, pack: Pack, preprocessing: Preprocessing, tmp_path: Path) -> None:
    report = report_on(model, pack, "test", preprocessing)
    assert EvaluationReport.model_validate_json(report.model_dump_json()) == report


def test_the_table_has_a_line_a_class_the_matrix_and_the_hardest_images(
    model: AlexNet, pack: Pack, preprocessing: Preprocessing
) -> None:
    report = report_on(model, pack, "test", preprocessing, crops=10, num_hardest=2)
    heading, classes, matrix, hardest = to_table(report).split("\n\n")
    assert heading.startswith(f"30 images (test, 10 crops): top-1 {report.top1:.2%}")
    assert [line.split()[0] for line in classes.splitlines()] == ["class", "a", "b", "c"]
    counts = [[int(n.replace(".", "0")) for n in line.split()[1:]] for line in matrix.splitlines()[1:]]
    assert counts == report.confusion
    assert [int(line.split()[0]) for line in hardest.splitlines()[1:]] == [image.position for image in report.hardest]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_report(model: AlexNet, pack: Pack, preprocessing: Preprocessing) -> None:
    here = report_on(model, pack, "test", preprocessing)
    there = report_on(model.to("cuda"), pack, "test", preprocessing, device="cuda")
    model.to("cpu")
    assert there.confusion == here.confusion
    assert there.loss == pytest.approx(here.loss, rel=1e-3)


def test_the_hardest_images_are_named_by_their_files(
    model: AlexNet, preprocessing: Preprocessing, pack: Pack, tmp_path: Path
) -> None:
    assert {image.file for image in report_on(model, pack, "test", preprocessing).hardest} == {None}
    shutil.copytree(pack.path, tmp_path / "named")
    write_file_names(tmp_path / "named", [f"photos/{position}.jpg" for position in range(len(pack.labels))])
    named = report_on(model, open_pack(tmp_path / "named"), "test", preprocessing, num_hardest=3)
    assert [image.file for image in named.hardest] == [f"photos/{image.position}.jpg" for image in named.hardest]
    lines = to_table(named).split("\n\n")[-1].splitlines()
    assert lines[0].split() == ["hardest", "image", "true", "predicted", "file"]
    assert [line.split()[-1] for line in lines[1:]] == [image.file for image in named.hardest]
