"""Flipped labels are found with a network that was trained on them; what is left out is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from alexnet_core.data.file_names import write_file_names
from alexnet_core.data.pack import TEST, TRAIN, Pack
from alexnet_core.data.pack_draft import write_pack
from alexnet_core.data.published.builtin import prepare
from alexnet_core.evaluation.confident_learning import NothingToCheck
from alexnet_core.evaluation.job_evaluation import LabelErrors
from alexnet_core.evaluation.label_errors import Bounds, find_label_errors
from alexnet_core.network.checkpoint import load_checkpoint, weights_sha256
from alexnet_core.network.model import AlexNet, build_model
from alexnet_core.network.preprocess import Preprocessing
from alexnet_core.recipes import resolve
from alexnet_core.training.loop import Run
from alexnet_core.training.run_spec import RunSpec
from tests.alexnet_core.toy import QuietHooks

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return prepare("digits", source_dir=None, target_dir=tmp_path_factory.mktemp("packs") / "digits")


@pytest.fixture(scope="module")
def flipped(clean: Pack, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """Digits with 5 % of the labels of the images that are trained or validated on replaced by other ones."""
    generator = np.random.default_rng(3)
    labels = np.array(clean.labels)
    own = np.flatnonzero(clean.split != TEST)
    chosen = generator.choice(own, round(0.05 * len(own)), replace=False)
    labels[chosen] = (labels[chosen] + generator.integers(1, 10, len(chosen))) % 10
    return write_pack(
        tmp_path_factory.mktemp("packs") / "flipped", name="digits", class_names=clean.class_names,
        images_NHWC=np.asarray(clean.images), labels_N=labels, split_N=np.asarray(clean.split), flip_safe=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(flipped: Pack, tmp_path_factory: pytest.TempPathFactory) -> tuple[AlexNet, Preprocessing]:
    torch.set_num_threads(1)
    _, config = resolve("quick", {"epochs": 6, "precision": "fp32"}, flipped.facts)
    result = Run(RunSpec(config, flipped, 1, tmp_path_factory.mktemp("checkpoints")), QuietHooks()).train()
    assert result.last_checkpoint is not None
    model = build_model(config, 10, 1)
    model.load_state_dict(load_checkpoint(result.last_checkpoint).weights)
    return model, Preprocessing.of(config, flipped)


def positions_of(found: LabelErrors) -> NDArray[np.int64]:
    return np.array([image.position for image in found.images], dtype=np.int64)


def test_most_of_the_flipped_labels_are_found_and_few_others(
    clean: Pack, flipped: Pack, trained: tuple[AlexNet, Preprocessing]
) -> None:
    model, preprocessing = trained
    before = weights_sha256(model.state_dict())
    found = find_label_errors(model, flipped, preprocessing)
    wrong = np.flatnonzero((flipped.labels != clean.labels) & (flipped.split == TRAIN))
    right = np.isin(positions_of(found), wrong)
    assert right.mean() >= 0.9, "precision"
    assert right.sum() / len(wrong) >= 0.6, "recall"
    assert right[: len(right) // 2].all(), "the most certain come first"
    names = [clean.class_names[clean.labels[image.position]] for image in found.images]
    suggestions = [image.suggested == name for image, name in zip(found.images, names, strict=True)]
    assert np.mean(np.array(suggestions)[right]) > 0.9
    assert (found.num_checked, found.left_out) == (flipped.facts.num_train, None)
    assert found.num_found == len(found.images) == sum(one.num_found for one in found.classes)
    assert found.num_found == sum(one.num_suggested for one in found.classes)
    assert sum(one.num_checked for one in found.classes) == found.num_checked
    assert weights_sha256(model.state_dict()) == before
    assert model.training, "in the mode in which it came"


def test_an_image_is_named_by_where_it_is(flipped: Pack, trained: tuple[AlexNet, Preprocessing]) -> None:
    found = find_label_errors(*(trained[0], flipped, trained[1]))
    training = flipped.list_indices("train")
    for image in found.images:
        assert training[image.index] == image.position
        assert flipped.class_names[flipped.labels[image.position]] == image.label != image.suggested
        assert image.file is None
        assert 0 < image.confidence <= 1
    write_file_names(flipped.path, (f"{number}.png" for number in range(len(flipped.labels))))
    again = find_label_errors(trained[0], flipped, trained[1])
    assert [image.file for image in again.images] == [f"{image.position}.png" for image in found.images]


def test_what_is_too_much_is_left_out_and_told(flipped: Pack, trained: tuple[AlexNet, Preprocessing]) -> None:
    found = find_label_errors(trained[0], flipped, trained[1], bounds=Bounds(images=400))
    assert found.num_checked == 400
    assert found.left_out is not None
    assert found.left_out.startswith("400 of 1,")
    assert "too many" in found.left_out


def test_the_time_is_bounded_and_what_was_done_in_it_counts(
    flipped: Pack, trained: tuple[AlexNet, Preprocessing]
) -> None:
    moment = 0.0

    def clock() -> float:
        nonlocal moment
        moment += 1
        return moment

    found = find_label_errors(trained[0], flipped, trained[1], bounds=Bounds(seconds=4), clock=clock)
    assert 256 <= found.num_checked < 800
    assert found.left_out is not None
    assert "no time" in found.left_out


def test_many_features_are_projected_onto_fewer(flipped: Pack, clean: Pack) -> None:
    """2,304 features of an untrained network: even these tell digits apart."""
    _, config = resolve("quick", {"widths": [32, 64, 96, 96, 256], "precision": "fp32"}, flipped.facts)
    torch.manual_seed(0)
    model = build_model(config, 10, 1).eval()
    assert model.features(torch.zeros(1, 1, 24, 24)).numel() == 2304
    bounds = Bounds(values=768 * 600)
    found = find_label_errors(model, flipped, Preprocessing.of(config, flipped), bounds=bounds)
    assert found.num_checked == 600
    right = flipped.labels != clean.labels
    assert right[positions_of(found)].mean() > 0.5
    again = find_label_errors(model, flipped, Preprocessing.of(config, flipped), bounds=bounds)
    assert again.images == found.images


def test_small_classes_are_left_out_and_too_few_classes_refused(
    flipped: Pack, trained: tuple[AlexNet, Preprocessing], tmp_path: Path
) -> None:
    model, preprocessing = trained

    def write(name: str, labels: NDArray[np.int64]) -> Pack:
        images = np.asarray(flipped.images)[: len(labels)]
        split = np.zeros(len(labels), dtype=np.uint8)
        return write_pack(
            tmp_path / name, name=name, class_names=flipped.class_names, images_NHWC=images, labels_N=labels,
            split_N=split, flip_safe=False,
        )  # fmt: skip

    labels = np.array([0] * 20 + [1] * 20 + list(range(2, 10)) * 2, dtype=np.int64)
    found = find_label_errors(model, write("small", labels), preprocessing)
    assert found.num_checked == 40
    assert found.left_out == "16 images are of classes with fewer than 10 images to compare"
    with pytest.raises(NothingToCheck, match="fewer than two classes"):
        find_label_errors(model, write("few", np.arange(10, dtype=np.int64)), preprocessing)
