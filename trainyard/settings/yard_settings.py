"""All settings of a yard together, as they are read at the entry points and handed to child processes."""

from __future__ import annotations

import os

from pydantic import SecretStr

from trainyard.settings.address_settings import AddressSettings
from trainyard.settings.dataset_settings import DatasetSettings
from trainyard.settings.lease_settings import LeaseSettings
from trainyard.settings.log_settings import LogSettings
from trainyard.settings.request_settings import RequestSettings
from trainyard.settings.serving_settings import ServingSettings
from trainyard.settings.storage_settings import StorageSettings
from trainyard.settings.training_settings import TrainingSettings


class Settings(
    AddressSettings,
    TrainingSettings,
    DatasetSettings,
    ServingSettings,
    RequestSettings,
    StorageSettings,
    LeaseSettings,
    LogSettings,
):
    """All settings of a yard, in the order in which the documentation lists their groups."""

    def as_environment(self) -> dict[str, str]:
        """Return these settings as environment variables for a child process, without the defaults."""
        env: dict[str, str] = {}
        for name in self.model_fields_set - {"key"}:  # a client's; no service needs it
            if (value := getattr(self, name)) is not None:
                text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
                env[f"TRAINYARD_{name.upper()}"] = text
        return env


def child_environment(settings: Settings) -> dict[str, str]:
    """Return the environment of a service child: this process's own with the present settings."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("TRAINYARD_")}
    return inherited | settings.as_environment()
