from __future__ import annotations

from typing import Any

import pytest

from alexnet_core.config import DatasetFacts
from alexnet_core.errors import ConfigError
from alexnet_core.network.geometry import count_parameters
from alexnet_core.recipes import resolve
from alexnet_core.training.schedule import learning_rate
from api.previews.preview import MAX_RATES, build_preview
from api.previews.run_times import Estimate, Plan
from api.schemas.runs.previews import Basis, PreviewRead

FACTS = DatasetFacts(
    name="flowers",
    num_classes=5,
    class_names=("a", "b", "c", "d", "e"),
    image_px=32,
    channels=3,
    flip_safe=False,
    num_train=1000,
    num_val=100,
    num_test=200,
)


def preview(facts: DatasetFacts = FACTS, estimate: Estimate | None = None, **overrides: Any) -> PreviewRead:
    recipe, config = resolve("quick", {"batch_size": 64, "epochs": 3} | overrides, facts)
    return build_preview(Plan(recipe, config, facts), estimate)


def warned(found: PreviewRead) -> list[str]:
    return [warning.param for warning in found.warnings]


def test_steps_network_and_rates_are_those_of_the_run() -> None:
    found = preview(schedule="cosine")
    _, config = resolve("quick", {"batch_size": 64, "epochs": 3, "schedule": "cosine"}, FACTS)
    assert found.config == config.model_dump(mode="json")
    assert (found.steps_per_epoch, found.steps) == (16, 48)
    assert found.num_parameters == count_parameters(config, 5, 3) == sum(it.parameters for it in found.layers)
    assert found.lr == [(step, learning_rate(config, step - 1, 16)) for step in range(1, 49)]
    assert [it.shape for it in found.layers[:2]] == [[32, 24, 24], [32, 12, 12]]
    assert found.layers[-1].shape == [5]
    assert found.seconds is None


def test_of_a_long_run_some_rates_are_shown_the_first_and_the_last_among_them() -> None:
    found = preview(epochs=100, schedule="one_cycle")
    steps = [step for step, _ in found.lr]
    assert len(steps) == MAX_RATES
    assert (steps[0], steps[-1]) == (1, 1600)
    assert steps == sorted(set(steps))


def test_validation_images_are_trained_on_where_nothing_is_held_back() -> None:
    found = preview(validate_on="none")
    assert found.steps_per_epoch == 18  # 1,100 images


def test_a_single_step_is_a_run_too() -> None:
    found = preview(FACTS.model_copy(update={"num_train": 10}), epochs=1)
    assert (found.steps, len(found.lr)) == (1, 1)
    assert "overrides.batch_size" in warned(found)


def test_what_is_not_known_of_a_dataset_is_null() -> None:
    unknown = FACTS.model_copy(update={"num_train": None, "num_val": None, "num_test": None})
    found = preview(unknown)
    assert (found.steps, found.lr, found.seconds) == (None, [], None)
    assert found.num_parameters > 0
    assert warned(found) == ["dataset"]


@pytest.mark.parametrize(
    ("overrides", "param", "words"),
    [
        ({"validate_on": "test"}, "overrides.validate_on", "other images will do worse"),
        ({"schedule": "plateau"}, "overrides.schedule", "until the validation error stops falling"),
        ({"early_stop_patience": 2}, "overrides.early_stop_patience", "may end before its last epoch"),
        ({"flip": True}, "overrides.flip", "mirror"),
    ],
)
def test_a_warning_names_its_option(overrides: dict[str, Any], param: str, words: str) -> None:
    (warning,) = [it for it in preview(**overrides).warnings if it.param == param][:1]
    assert words in warning.message


def test_an_ordinary_run_has_no_warning() -> None:
    assert preview().warnings == []


def test_a_dataset_without_what_the_schedule_needs_is_refused() -> None:
    with pytest.raises(ConfigError, match="no images to validate on"):
        preview(FACTS.model_copy(update={"num_val": 0, "num_test": 0}), schedule="plateau")


@pytest.mark.parametrize(
    ("basis", "words"),
    [
        (Basis.MEASURED, "Measured on 3 finished jobs with this recipe, network, batch and precision, on cpu, cuda:0."),
        (Basis.SCALED, "A rough figure: 3 finished jobs of other networks on cpu, cuda:0"),
        (Basis.MACHINE, "no job has finished yet"),
    ],
)
def test_an_estimate_says_what_it_is_based_on(basis: Basis, words: str) -> None:
    seconds = preview(estimate=Estimate(61.23, 1234.5, basis, 3, ("cpu", "cuda:0"))).seconds
    assert seconds is not None
    assert (seconds.low, seconds.high, seconds.basis) == (61.0, 1200.0, basis)
    assert words in seconds.explanation
