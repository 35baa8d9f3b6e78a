"""The settings that say where the parts of a yard find each other, and who may reach it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from trainyard.settings.documented_settings import DocumentedSettings
from trainyard.settings.setting_types import Folder

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})
MIN_KEY_LENGTH = 16


class AddressSettings(DocumentedSettings):
    """Addresses, keys and the data folder."""

    data_dir: Folder = Path("trainyard-data")
    """Folder for the database, dataset packs, checkpoints and logs. Made if it does not exist."""

    database_url: SecretStr | None = None
    """`postgresql+psycopg://user:password@host/name`. Default: SQLite in the data folder."""

    redis_url: SecretStr | None = None
    """`redis://[:password@]host:port/0`. Default: `trainyard up` starts a queue server of its own."""

    remote_control: Literal["auto", "on", "off"] = "auto"
    """Whether workers answer Celery's inspections and send events. `auto`: if `redis_url` is on loopback."""

    host: str = "127.0.0.1"
    """Address that the API listens on. Any other than loopback needs `admin_key`."""

    port: int = Field(8000, ge=0, le=65535)
    """Port that the API listens on. 0: any free one; the line that says "ready" names it."""

    url: str | None = None
    """Address of the yard for commands such as `trainyard train` and for the Python client. Default: `http://` with
    `host` and `port`, for the client `http://127.0.0.1:8000`."""

    key: SecretStr | None = None
    """Key that commands and the Python client send. Default: `admin_key`, or what `trainyard login` kept."""

    admin_key: SecretStr | None = None
    """Key that every request must send as `Authorization: Bearer <key>`; at least 16 characters. Default: no key."""

    metrics_key: SecretStr | None = None
    """Key for Prometheus, which opens only `GET /metrics`; at least 16 characters. `admin_key` opens that too."""

    open_metrics: bool = False
    """Answer `GET /metrics` without a key, even where there is one."""

    allow_open_network: bool = False
    """Allow an address other than loopback without a key. Use it only behind a proxy that authenticates."""

    trusted_hosts: str = ""
    """Host names, separated by commas, for a yard without a key, besides loopback and `host`: `yard.lan,10.0.0.7`."""

    @field_validator("admin_key", "metrics_key")
    @classmethod
    def _long_enough(cls, key: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if key is not None and len(key.get_secret_value()) < MIN_KEY_LENGTH:
            raise ValueError(
                f"{info.field_name} is shorter than {MIN_KEY_LENGTH} characters: "
                "use a random one, for example from `openssl rand -hex 24`"
            )
        return key

    @property
    def sqlalchemy_url(self) -> str:
        """The database's URL for SQLAlchemy. It contains the password, so never log it."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir.absolute() / 'trainyard.db'}"

    @property
    def is_inspectable(self) -> bool:
        """Whether a worker answers Celery's inspections and sends events."""
        if self.remote_control != "auto":
            return self.remote_control == "on"
        if self.redis_url is None:
            return False
        addresses = self.redis_url.get_secret_value().split(";")  # kombu takes several
        return all(urlsplit(address).hostname in LOOPBACK_HOSTS for address in addresses)

    def check_exposure(self) -> None:
        """Refuse to listen on an address that strangers can reach, if the API asks for no key.

        Raises:
            ValueError: the host is not loopback, no key is set, and nobody said that this is meant.
        """
        if self.host in LOOPBACK_HOSTS or self.admin_key is not None or self.allow_open_network:
            return
        raise ValueError(
            f"refusing to listen on {self.host} without a key: anyone who reaches this address could train and delete. "
            "Set TRAINYARD_ADMIN_KEY (16 characters or more), listen on 127.0.0.1, "
            "or set TRAINYARD_ALLOW_OPEN_NETWORK=1 if a proxy in front asks for credentials"
        )
