"""Learning rates over time, and when a run is over before its last epoch."""

from __future__ import annotations

import pytest

from alexnet_core.config import TrainConfig
from alexnet_core.recipes import get_recipe
from alexnet_core.training.schedule import (
    conv1_learning_rate,
    count_plateaus,
    describe_rate,
    learning_rate,
    reason_to_end,
)

BASE = TrainConfig(
    widths=(4, 4, 4, 4, 4), kernels=(3, 3, 3, 3, 3), fc_widths=(8, 8), image_px=16, batch_size=8, epochs=40, lr=0.1,
)  # fmt: skip


def history(*top1: float) -> list[dict[str, float]]:
    return [{"val_top1": value} for value in top1]


def test_the_notes_rates_change_at_their_epochs() -> None:
    config = get_recipe("notes-cifar10").config
    rates = [learning_rate(config, epoch * 782, 782) for epoch in (0, 99, 100, 199, 200, 299)]
    assert rates == [0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001]


def test_a_hint_names_the_setting_that_rules_the_rate() -> None:
    config = get_recipe("notes-cifar10").config
    assert describe_rate(config, 100 * 782, 782) == "the rates of lr_steps (now 0.001)"
    assert describe_rate(config.with_overrides({"schedule": "cosine", "lr": 0.02}), 9, 782) == "lr (it is 0.02)"


def test_the_diary_of_2012_slows_and_freezes_conv1() -> None:
    config = get_recipe("paper-2012-run").config  # the diary counts epochs from 1: its epoch 25 begins after 24
    rates = [learning_rate(config, epoch * 10, 10) for epoch in (0, 23, 24, 49, 50, 77, 78, 89)]
    assert rates == [0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001, 0.00001, 0.00001]
    assert [conv1_learning_rate(config, epoch * 10, 10) for epoch in (65, 66, 70, 71, 89)] == [None, 1e-5, 1e-5, 0, 0]


def test_a_plateau_is_counted_when_nothing_rose_for_the_whole_patience() -> None:
    assert count_plateaus(history(0.1, 0.2, 0.2, 0.2), 3) == 0
    assert count_plateaus(history(0.1, 0.2, 0.2, 0.2, 0.1), 3) == 1
    assert count_plateaus(history(0.1, 0.2, 0.2, 0.2, 0.1, 0.2, 0.1, 0.2), 3) == 2
    assert count_plateaus(history(0.1, 0.2, 0.2, 0.2, 0.1, 0.3, 0.1, 0.2), 3) == 1


def test_the_papers_rule_divides_by_ten_three_times_and_ends_at_the_next_plateau() -> None:
    config = BASE.with_overrides({"schedule": "plateau", "plateau_patience": 2})
    past = history(0.5)
    rates = []
    while reason_to_end(config, past) is None:
        past += history(0.5)
        rates.append(learning_rate(config, 0, 10, past))
    assert rates == pytest.approx([0.1, 0.01, 0.01, 0.001, 0.001, 1e-4, 1e-4, 1e-4])
    assert reason_to_end(config, past) == "plateau"


def test_a_run_ends_early_only_if_asked() -> None:
    flat = history(0.5, 0.5, 0.5, 0.5)
    assert reason_to_end(BASE, flat) is None
    assert reason_to_end(BASE.with_overrides({"early_stop_patience": 4}), flat) is None
    assert reason_to_end(BASE.with_overrides({"early_stop_patience": 3}), flat) == "early_stop"


def test_one_cycle_peaks_after_its_warmup_and_ends_near_nothing() -> None:
    config = BASE.with_overrides({"schedule": "one_cycle", "warmup_fraction": 0.25, "lr": 1.0})
    rates = [learning_rate(config, step, 10) for step in range(400)]
    assert max(rates) == rates[100] == pytest.approx(1.0)
    assert rates == sorted(rates[:100]) + sorted(rates[100:], reverse=True)
    assert 0 < rates[-1] < 0.01


def test_cosine_is_half_way_down_in_its_middle() -> None:
    config = BASE.with_overrides({"schedule": "cosine", "lr": 1.0})
    assert learning_rate(config, 200, 10) == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
@pytest.mark.parametrize(
    ("epochs", "steps", "warmup"), [(3, 2, 0.2), (2, 3, 0.25), (8, 1, 0.2), (4, 21, 0.2), (1, 1, 0.5)]
)
def test_a_warmup_never_passes_the_rate_that_it_rises_to(schedule: str, epochs: int, steps: int, warmup: float) -> None:
    config = BASE.with_overrides({"schedule": schedule, "epochs": epochs, "warmup_fraction": warmup, "lr": 0.5})
    rates = [learning_rate(config, step, steps) for step in range(epochs * steps)]
    assert max(rates) <= 0.5
    assert rates[0] > 0
