"""Several networks that answer together, as the paper's five nets did: the mean of their probabilities."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from alexnet_core.__main__ import main
from alexnet_core.data.pack import Pack
from alexnet_core.data.pack_draft import write_pack
from alexnet_core.errors import CheckpointIncompatible
from alexnet_core.evaluation.ensemble import Ensemble
from alexnet_core.evaluation.evaluate import average, score
from alexnet_core.evaluation.predictor import Predictor
from alexnet_core.evaluation.report import report_on
from alexnet_core.evaluation.scores import EvaluationReport
from alexnet_core.network.checkpoint import save_checkpoint
from alexnet_core.network.model import build_model
from tests.alexnet_core.networks import CLASSES, NARROW, make_checkpoint


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five nets with weights of their own; the last one sees larger images."""
    root = tmp_path_factory.mktemp("nets")
    for number in range(5):
        made = make_checkpoint("quick", image_px=32 if number == 4 else 24, **NARROW)
        torch.manual_seed(number)
        weights = build_model(made.config, len(CLASSES), 3).state_dict()
        weights = {name: value * (3 if name.endswith("fc8.weight") else 1) for name, value in weights.items()}
        metadata = made.metadata | {"validate_on": "test" if number == 3 else "validation"}
        save_checkpoint(dataclasses.replace(made, path=root / str(number), weights=weights, metadata=metadata))
    return [root / str(number) for number in range(5)]


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    draw = np.random.default_rng(0)
    return write_pack(
        tmp_path_factory.mktemp("packs") / "noise", name="noise", class_names=CLASSES, flip_safe=False,
        images_NHWC=draw.integers(0, 256, (50, 24, 24, 3)).astype(np.uint8), labels_N=np.arange(50) % 10,
        split_N=np.array([0, 0, 0, 1, 2], dtype=np.uint8).repeat(10),
    )  # fmt: skip


def by_hand(nets: list[Path], images: np.ndarray) -> torch.Tensor:
    found = []
    for path in nets:
        predictor = Predictor.load(path)
        logits = [predictor.logits(predictor.preprocess(image)[None])[0] for image in images]
        found.append(torch.softmax(torch.stack(logits).double(), dim=1))
    return torch.stack(found).mean(dim=0)


def test_five_nets_give_the_mean_of_their_probabilities(nets: list[Path], pack: Pack) -> None:
    images = np.array(pack.images[:6])
    expected = by_hand(nets, images)
    found = Ensemble.load(nets).predict(list(images), top_k=10)
    for row, guesses in zip(expected, found, strict=True):
        assert [guess.probability for guess in guesses] == pytest.approx(sorted(row.tolist(), reverse=True), abs=1e-5)
        assert guesses[0].index == int(row.argmax())
        assert guesses[0].label == CLASSES[guesses[0].index]
    alone = Predictor.load(nets[0]).predict(list(images), top_k=10)
    assert Ensemble.load(nets[:1]).predict(list(images), top_k=10) == alone
    assert [guesses[0].probability for guesses in found] != [guesses[0].probability for guesses in alone]


def test_an_average_of_improbable_classes_stays_a_number() -> None:
    scores = [torch.tensor([[-200.0, 0.0]]), torch.tensor([[-300.0, 0.0]])]
    assert average(scores).tolist() == [pytest.approx([-200 - np.log(2), 0.0])]


def test_evaluate_averages_too(
    nets: list[Path], pack: Pack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for path in nets[1:] for word in ("--with", str(path))]
    command = ["evaluate", str(nets[0]), "--dataset", str(pack.path), "--report", str(tmp_path / "a.json"), *words]
    assert main([*command, "--hardest", "2"]) == 0
    report = EvaluationReport.model_validate_json((tmp_path / "a.json").read_text())
    probabilities = by_hand(nets, np.array(pack.images[40:]))
    labels = torch.from_numpy(np.array(pack.labels[40:], dtype=np.int64))
    assert report.top1 == pytest.approx(float((probabilities.argmax(dim=1) == labels).double().mean()))
    assert report.loss == pytest.approx(float(-probabilities.log().gather(1, labels[:, None]).mean()), abs=1e-5)
    assert "chosen on this split (test)" in capsys.readouterr().out, "the fourth one's epoch was"


def test_ten_views_of_each_network_are_averaged_before_the_networks(nets: list[Path], pack: Pack) -> None:
    members = [Predictor.load(path) for path in nets[:2]]
    first, second = members
    others = [(second.model, second.preprocessing)]
    found = report_on(first.model, pack, "test", first.preprocessing, crops=10, others=others)
    images, labels = torch.from_numpy(np.array(pack.images[40:])), torch.arange(40, 50) % 10
    each = [score(member.model, images, member.preprocessing, crops=10).exp() for member in members]
    expected = -((each[0] + each[1]) / 2).log().gather(1, labels[:, None]).mean()
    assert found.loss == pytest.approx(float(expected), abs=1e-5)


def test_predict_names_the_classes_of_all_networks_together(
    nets: list[Path], pack: Pack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = np.array(pack.images[0])
    Image.fromarray(image).save(tmp_path / "a.png")
    assert main(["predict", str(nets[0]), str(tmp_path / "a.png"), "--with", str(nets[1]), "--top-k", "1"]) == 0
    row = by_hand(nets[:2], image[None])[0]
    assert capsys.readouterr().out == f"{tmp_path}/a.png  {CLASSES[int(row.argmax())]} {float(row.max()):.1%}\n"


def test_networks_of_other_classes_are_refused(nets: list[Path], tmp_path: Path) -> None:
    made = make_checkpoint("quick", **NARROW)
    save_checkpoint(dataclasses.replace(made, path=tmp_path / "other", class_names=tuple(reversed(CLASSES))))
    with pytest.raises(CheckpointIncompatible, match="different classes"):
        Ensemble.load([nets[0], tmp_path / "other"])
