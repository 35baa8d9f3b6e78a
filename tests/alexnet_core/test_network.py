import math

import numpy as np
import pytest
import torch
from torch import nn

from alexnet_core.augment import draw_table, transform
from alexnet_core.config import TrainConfig
from alexnet_core.evaluate import top_k_accuracy
from alexnet_core.layers import PaddedConv2d, SameMaxPool2d, same_padding
from alexnet_core.model import build_model, count_parameters
from alexnet_core.optimiser import VelocitySGD
from alexnet_core.schedule import learning_rate

NOTES = TrainConfig(
    widths=(96, 256, 384, 384, 256), kernels=(11, 5, 3, 3, 3), conv1_stride=4, padding="tf_same", init="uniform",
    fc_widths=(4096, 4096), image_px=32, optimiser="sgd_lr_in_velocity", nesterov=True, batch_size=64, epochs=300,
    schedule="multistep", lr_steps=((0, 0.01), (100, 0.001), (200, 0.0001)), flip=True, shift_px=4.0,
)  # fmt: skip


def test_the_notes_network_has_exactly_its_parameters():
    model = build_model(NOTES, 10, 3)
    assert count_parameters(model) == 21_622_154
    assert count_parameters(model.features.conv1) == 34_944
    assert count_parameters(model.classifier.fc6) == 1_052_672


def test_same_padding_is_tensorflows():
    assert same_padding(32, 11, 4) == (3, 4)
    assert same_padding(8, 3, 2) == (0, 1)
    assert same_padding(7, 3, 2) == (1, 1)


@pytest.mark.parametrize("size", [7, 8])
def test_same_convolution_and_pooling_agree_with_a_plain_loop(size):
    x = torch.randn(1, 1, size, size)
    conv = PaddedConv2d(1, 1, 3, 2, rule="tf_same", groups=1, bias=False)
    before, after = same_padding(size, 3, 2)
    image = x[0, 0].numpy()
    zeros = np.pad(image, (before, after))
    lowest = np.pad(image, (before, after), constant_values=-np.inf)
    kernel = conv.weight.detach().numpy()[0, 0]
    places = range(math.ceil(size / 2))
    convolved = [[(zeros[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] * kernel).sum() for j in places] for i in places]
    pooled = [[lowest[2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max() for j in places] for i in places]
    np.testing.assert_allclose(conv(x)[0, 0].detach().numpy(), convolved, atol=1e-5)
    np.testing.assert_allclose(SameMaxPool2d(3, 2)(x)[0, 0].numpy(), pooled)


def test_the_keras_rule_holds_across_a_change_of_the_learning_rate():
    weight = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimiser = VelocitySGD([weight], lr=0.1, momentum=0.9, nesterov=True)
    w, v = 1.0, 0.0
    for lr, gradient in [(0.1, 2.0), (0.1, -1.0), (0.01, 3.0), (0.01, 0.5)]:
        optimiser.param_groups[0]["lr"] = lr
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimiser.step()
        v = 0.9 * v - lr * gradient
        w = w + 0.9 * v - lr * gradient
        assert weight.item() == pytest.approx(w, abs=1e-12)


def test_the_step_schedule_changes_at_its_epochs():
    assert [learning_rate(NOTES, epoch * 782, 782) for epoch in (0, 99, 100, 199, 200)] == [
        0.01, 0.01, 0.001, 0.001, 0.0001,
    ]  # fmt: skip


def test_one_cycle_peaks_after_its_warmup_and_ends_near_nothing():
    config = NOTES.with_overrides({"schedule": "one_cycle", "warmup_fraction": 0.25, "epochs": 4, "lr": 1.0})
    rates = [learning_rate(config, step, 10) for step in range(40)]
    assert max(rates) == rates[10] == pytest.approx(1.0)
    assert rates[-1] < 0.05


def test_an_image_gets_its_draw_whatever_its_batch():
    x = torch.randn(8, 1, 28, 28)
    draws = torch.from_numpy(draw_table(3, 1, 8, NOTES))
    config = NOTES.with_overrides({"rotate_deg": 10.0, "scale": 0.1})
    together = transform(x, draws, config)
    assert torch.equal(together[2:4], transform(x[2:4], draws[2:4], config))


def test_no_augmentation_leaves_the_images_alone():
    x = torch.randn(2, 1, 8, 8)
    config = NOTES.with_overrides({"flip": False, "shift_px": 0.0})
    assert transform(x, torch.zeros(2, 5), config) is x


def test_top_k_refuses_more_guesses_than_classes():
    logits = torch.tensor([[0.1, 0.9, 0.5], [0.9, 0.1, 0.5]])
    labels = torch.tensor([2, 0])
    assert top_k_accuracy(logits, labels) == 0.5
    assert top_k_accuracy(logits, labels, 2) == 1.0
    with pytest.raises(ValueError, match="k is 4"):
        top_k_accuracy(logits, labels, 4)
