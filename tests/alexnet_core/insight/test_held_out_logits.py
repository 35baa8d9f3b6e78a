"""A calibration at the end of a run: on which images, for how long, and that it can be stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet_core.data.pack import Pack
from alexnet_core.insight import held_out_logits
from alexnet_core.insight.calibration import NotCalibrated, calibrate
from alexnet_core.insight.held_out_logits import calibrate_network
from alexnet_core.network.model import AlexNet, build_model
from alexnet_core.network.preprocess import Preprocessing
from tests.alexnet_core.networks import layer_of
from tests.alexnet_core.toy import CONFIG, write_toy_pack

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return write_toy_pack(tmp_path_factory.mktemp("packs") / "toy")


@pytest.fixture(scope="module")
def model() -> AlexNet:
    torch.manual_seed(3)
    return build_model(CONFIG, 3, 1)


@pytest.mark.parametrize(("chosen_on", "split"), [("validation", "validation"), ("test", "test"), ("none", "test")])
def test_the_images_are_those_that_it_was_not_trained_on(
    pack: Pack, model: AlexNet, chosen_on: str, split: str
) -> None:
    """Where the test images chose the epoch, or nothing did, the validation images were trained on."""
    how = Preprocessing.of(CONFIG, pack)
    found = calibrate_network(model, pack, how, chosen_on=chosen_on)
    rows = pack.list_indices(split)
    model.eval()
    with torch.no_grad():
        logits = model(how.to_input(torch.from_numpy(np.ascontiguousarray(pack.images[rows])))).numpy()
    expected = calibrate(logits, np.asarray(pack.labels[rows]), "validation")
    assert found.split == split
    assert found.temperature == pytest.approx(expected.temperature, rel=1e-4)
    assert found.after.nll == pytest.approx(expected.after.nll, rel=1e-4)


def test_where_time_is_short_a_sample_is_looked_at(pack: Pack, model: AlexNet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out_logits, "_BATCH", 20)
    clock = iter(range(0, 10_000, 61))
    how = Preprocessing.of(CONFIG, pack)
    found = calibrate_network(model, pack, how, chosen_on="validation", clock=lambda: next(clock))
    assert found.num_images == 20


def test_it_ends_when_the_caller_says_so_and_the_mode_is_as_before(pack: Pack, model: AlexNet) -> None:
    def stop() -> None:
        raise InterruptedError

    model.train()
    with pytest.raises(InterruptedError):
        calibrate_network(model, pack, Preprocessing.of(CONFIG, pack), chosen_on="validation", check=stop)
    assert model.training


def test_answers_that_are_not_finite_are_refused(pack: Pack, tmp_path: Path) -> None:
    broken = build_model(CONFIG, 3, 1)
    with torch.no_grad():
        layer_of(broken, "classifier.fc8", torch.nn.Linear).weight.fill_(float("nan"))
    with pytest.raises(NotCalibrated, match="not finite"):
        calibrate_network(broken, pack, Preprocessing.of(CONFIG, pack), chosen_on="validation")
