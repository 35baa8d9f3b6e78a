"""What a spec comes to before the first step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alexnet_core.data.pack import Pack
from alexnet_core.training.run_spec import RunSpec, Setting
from alexnet_core.training.world import World
from tests.alexnet_core.toy import CONFIG, write_toy_pack


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return write_toy_pack(tmp_path_factory.mktemp("packs") / "toy")


def setting(pack: Pack, steps_per_epoch: int = 7, **overrides: Any) -> Setting:
    spec = RunSpec(CONFIG.with_overrides(overrides), pack, 7, Path())
    return Setting.of(spec, World("cpu"), steps_per_epoch)


def test_what_the_bits_depend_on_is_written_down(pack: Pack) -> None:
    found = setting(pack)
    assert (found.precision, found.environment["precision"], found.environment["world_size"]) == ("fp32", "fp32", 1)
    assert (found.channels, found.steps, str(found.device)) == (1, 21, "cpu")
    assert setting(pack, channels=3).channels == 3


def test_the_test_split_chooses_the_epoch_where_there_is_no_other(pack: Pack) -> None:
    assert setting(pack).validate_on == "validation"
    assert setting(pack, validate_on="test").validate_on == "test"
    alone = replace(pack, facts=pack.facts.model_copy(update={"num_val": 0}))
    assert setting(alone).validate_on == "test"


@pytest.mark.parametrize(("steps_per_epoch", "every"), [(7, 1), (39, 1), (40, 2), (1000, 50)])
def test_an_epoch_has_about_twenty_points_unless_told_otherwise(pack: Pack, steps_per_epoch: int, every: int) -> None:
    found = setting(pack, steps_per_epoch)
    assert [step for step in range(1, steps_per_epoch + 1) if found.is_at_interval(step)][:1] == [every]
    told = setting(pack, steps_per_epoch, interval_steps=3)
    assert [step for step in range(1, 8) if told.is_at_interval(step)] == [3, 6]


def test_the_rate_of_the_last_step_done_is_described(pack: Pack) -> None:
    found = setting(pack, schedule="multistep", lr_steps=[[0, 0.1], [1, 0.01]])
    assert "0.1" in found.describe_rate(0)
    assert "0.1" in found.describe_rate(7)
    assert "0.01" in found.describe_rate(8)
    assert [found.learning_rate(step, []) for step in (6, 7)] == [0.1, 0.01]
