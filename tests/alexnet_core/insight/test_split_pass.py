"""Passes over a split: in steps, by several processes, with the result of one go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet_core.data.pack import Pack
from alexnet_core.evaluation.evaluate import evaluate
from alexnet_core.evaluation.predictor import Predictor
from alexnet_core.insight import split_pass
from alexnet_core.insight.calibration import CALIBRATION, NotCalibrated, calibrate
from alexnet_core.insight.methods import PassKind, Split
from alexnet_core.insight.named_layers import last_hidden_layer
from alexnet_core.insight.similar_images import SimilarityIndex
from alexnet_core.insight.split_answers import ANSWERS, SplitAnswers
from alexnet_core.insight.split_pass import SplitPass
from alexnet_core.network.model import build_model
from alexnet_core.network.preprocess import Preprocessing
from alexnet_core.reliability import Calibration
from tests.alexnet_core.toy import CONFIG, write_toy_pack

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return write_toy_pack(tmp_path_factory.mktemp("packs") / "toy")


@pytest.fixture(scope="module")
def predictor(pack: Pack) -> Predictor:
    torch.manual_seed(3)
    return Predictor(build_model(CONFIG, 3, 1), Preprocessing.of(CONFIG, pack), pack.class_names, {})


def run(kind: PassKind, predictor: Predictor, pack: Pack, split: Split, draft: Path, seconds: float = 60) -> int:
    """A new object for each step, as another process would make; returns the steps."""
    draft.mkdir(exist_ok=True)
    done, steps = 0, 0
    while True:
        one = SplitPass(kind, predictor, pack, split, draft)
        done = one.go_on(done, seconds)
        steps += 1
        if done == one.total:
            return steps


def logits_of(predictor: Predictor, pack: Pack, split: str) -> torch.Tensor:
    images = torch.from_numpy(np.ascontiguousarray(pack.images[pack.list_indices(split)]))
    return predictor.logits(predictor.preprocessing.to_input(images))


def test_the_answers_are_those_of_the_evaluation(pack: Pack, predictor: Predictor, tmp_path: Path) -> None:
    run(PassKind.ANSWERS, predictor, pack, "test", tmp_path)
    found = SplitAnswers.load(tmp_path / ANSWERS)
    expected = evaluate(predictor.model, pack, "test", predictor.preprocessing)
    assert expected is not None
    assert found.loss == pytest.approx(expected["loss"], rel=1e-4)
    assert [found.top(1), found.top(5)] == pytest.approx([expected["top1"], expected["top5"]])
    probabilities = logits_of(predictor, pack, "test").softmax(dim=1)
    assert found.probabilities.shape == (30, 3)
    for row in (0, 29):
        for guess in found.list_guesses(row, pack.class_names):
            assert guess.probability == pytest.approx(float(probabilities[row, guess.index]), abs=1e-5)
    assert (found.positions == pack.list_indices("test")).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == [ANSWERS]


def test_an_index_finds_each_of_its_images(pack: Pack, predictor: Predictor, tmp_path: Path) -> None:
    run(PassKind.INDEX, predictor, pack, "train", tmp_path)
    index = SimilarityIndex(tmp_path)
    assert len(index) == 100
    images = torch.from_numpy(np.ascontiguousarray(pack.images[pack.list_indices("train")]))
    with last_hidden_layer(predictor.model) as units:
        predictor.logits(predictor.preprocessing.to_input(images))
    for row in (0, 50, 99):
        nearest = index.search(units[0][row].numpy(), 3)
        assert nearest[0].distance < 1e-4
        at = int(pack.list_indices("train")[row])
        assert at in {one.position for one in nearest if one.distance < 1e-4}


def test_a_calibration_is_that_of_the_logits(pack: Pack, predictor: Predictor, tmp_path: Path) -> None:
    run(PassKind.CALIBRATION, predictor, pack, "validation", tmp_path)
    found = Calibration.model_validate_json((tmp_path / CALIBRATION).read_text())
    labels = np.asarray(pack.labels[pack.list_indices("validation")])
    expected = calibrate(logits_of(predictor, pack, "validation").numpy(), labels, "validation")
    assert found.temperature == pytest.approx(expected.temperature, rel=1e-4)
    assert (found.split, found.num_images) == ("validation", 30)
    assert sorted(path.name for path in tmp_path.iterdir()) == [CALIBRATION]


@pytest.mark.parametrize("kind", list(PassKind))
def test_in_steps_it_has_the_result_of_one_go(
    kind: PassKind, pack: Pack, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split: Split = "validation" if kind is PassKind.CALIBRATION else "train"
    monkeypatch.setattr(split_pass, "_BATCH", 8)
    assert run(kind, predictor, pack, split, tmp_path / "a") == 1
    assert run(kind, predictor, pack, split, tmp_path / "b", seconds=-1) == -(-len(pack.list_indices(split)) // 8)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "b").iterdir())
    for name in files:
        if name.endswith(".npy"):
            assert (np.load(tmp_path / "a" / name) == np.load(tmp_path / "b" / name)).all()
        elif name.endswith(".json"):
            assert (tmp_path / "a" / name).read_text() == (tmp_path / "b" / name).read_text()


def test_the_training_images_calibrate_nothing(pack: Pack, predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(NotCalibrated, match="was trained on"):
        run(PassKind.CALIBRATION, predictor, pack, "train", tmp_path)


def test_a_split_without_images_has_no_answers_and_no_index(predictor: Predictor, pack: Pack, tmp_path: Path) -> None:
    empty = Pack(**{**vars(pack), "split": np.ones_like(pack.split)})
    run(PassKind.ANSWERS, predictor, empty, "test", tmp_path / "a")
    assert len(SplitAnswers.load(tmp_path / "a" / ANSWERS).labels) == 0
    run(PassKind.INDEX, predictor, empty, "train", tmp_path / "b")
    assert SimilarityIndex(tmp_path / "b").search(np.zeros(16, np.float32), 3) == []
