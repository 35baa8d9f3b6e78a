"""What our own words are called in the API that OpenAI's clients speak."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from alexnet_core.errors import ConfigError
from trainyard.errors import ServiceError

_NAMES = {
    "dataset": "training_file",
    "recipe": "model",
    "name": "suffix",
    "overrides.epochs": "hyperparameters.n_epochs",
    "overrides.batch_size": "hyperparameters.batch_size",
    "overrides.lr": "hyperparameters.learning_rate_multiplier",
    "job_id": "fine_tuning_job_id",
    "dataset_id": "file_id",
}


@contextmanager
def in_openai_words(**names: str) -> Iterator[None]:
    """Let a refusal name the field of this API; `names` go before what is usual."""
    try:
        yield
    except (ServiceError, ConfigError) as exc:
        exc.param = (_NAMES | names).get(exc.param or "", exc.param)
        raise
