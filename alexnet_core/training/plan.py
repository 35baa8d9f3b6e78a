"""Works out what a run will do from the config and the facts about the dataset, before anything is loaded. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from alexnet_core.config import DatasetFacts, TrainConfig
from alexnet_core.errors import ConfigError


@dataclass(frozen=True)
class Trouble:
    """A problem that a user should know about, but that does not end the run."""

    code: str
    message: str


def choose_split(config: TrainConfig, facts: DatasetFacts) -> tuple[str, Trouble | None]:
    """Choose the split that decides which epoch is the best: `validation`, `test` or `none`.

    Returns:
        The split, and what whoever reads the results must know of it.

    Raises:
        ConfigError: no split is left, and the config needs one.
    """
    has = {"validation": facts.num_val, "test": facts.num_test, "none": True}
    wanted = config.validate_on
    split = wanted if has[wanted] else "test" if wanted == "validation" and facts.num_test else "none"
    if split == "none" and (config.schedule == "plateau" or config.early_stop_patience is not None):
        raise ConfigError(
            f"{facts.name} has no images to validate on, which schedule plateau and early_stop_patience need: "
            "use another schedule, or leave early_stop_patience out",
            param="overrides.validate_on",
        )
    reason = "" if split == wanted else f"{facts.name} has no {wanted} images to choose the best epoch by; "
    if split == "test":
        text = "the test images choose the best epoch, so that other images will do worse than the accuracy on them"
        return split, Trouble("chosen_on_test", f"{reason}{text}")
    return split, Trouble("nothing_to_validate_on", f"{reason}the last epoch counts") if reason else None


def count_training_images(config: TrainConfig, facts: DatasetFacts) -> int | None:
    """Count the images of an epoch, with those of the validation split where nothing is held back. None: not known."""
    if facts.num_train is None:
        return None
    return facts.num_train + (0 if config.validate_on == "validation" else facts.num_val or 0)


def count_steps(config: TrainConfig, num_images: int, shares: int = 1) -> int:
    """Count the steps of an epoch.

    A last batch too small for a batch norm (2 images, one in each process) is left out.

    Args:
        config: complete.
        num_images: of an epoch.
        shares: processes of the run.
    """
    full, rest = divmod(num_images, config.batch_size)
    return full + (1 if rest >= (max(2, shares) if config.norm == "batch" and full else 1) else 0)
