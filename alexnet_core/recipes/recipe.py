"""Defines what a recipe is."""

from __future__ import annotations

from dataclasses import dataclass

from alexnet_core.config import TrainConfig


@dataclass(frozen=True)
class Recipe:
    """A named config, with the source of its numbers and the reasons where they differ from the paper's."""

    name: str
    title: str
    description: str
    source: str
    config: TrainConfig
    fixed_statistics: str | None = None  #: the one dataset on which the config's mean and std hold
