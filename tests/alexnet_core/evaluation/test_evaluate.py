"""Accuracy, and the average over ten crops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet_core.evaluation.evaluate import evaluate, score, top_k_accuracy
from alexnet_core.network.model import build_model
from alexnet_core.network.preprocess import Preprocessing
from tests.alexnet_core.toy import CONFIG, write_toy_pack


def test_top_k_refuses_more_guesses_than_classes() -> None:
    logits = torch.tensor([[0.1, 0.9, 0.5], [0.9, 0.1, 0.5]])
    labels = torch.tensor([2, 0])
    assert top_k_accuracy(logits, labels) == 0.5
    assert top_k_accuracy(logits, labels, 2) == 1.0
    with pytest.raises(ValueError, match="k is 4"):
        top_k_accuracy(logits, labels, 4)


def test_ten_crops_average_the_probabilities_of_ten_views(tmp_path: Path) -> None:
    pack = write_toy_pack(tmp_path / "toy")
    config = CONFIG.with_overrides({"resize_px": 14})
    preprocessing = Preprocessing.of(config, pack)
    torch.manual_seed(0)
    model = build_model(config, 3, 1).eval()
    images = torch.from_numpy(np.array(pack.images[:5]))
    averaged = score(model, images, preprocessing, crops=10).exp()
    with torch.inference_mode():
        views = [model(view).softmax(dim=1) for view in preprocessing.to_ten_crops(images)]
    torch.testing.assert_close(averaged, torch.stack(views).mean(dim=0))
    measured = evaluate(model, pack, "test", preprocessing, crops=10, batch_size=7)
    whole = evaluate(model, pack, "test", preprocessing, crops=10)
    assert measured == pytest.approx(whole)
    assert measured is not None
    assert measured["num_images"] == 30
