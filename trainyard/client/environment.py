"""What the client takes from the environment where its caller names nothing."""

from __future__ import annotations

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

DEFAULT_URL = "http://127.0.0.1:8000"


class ClientEnvironment(BaseSettings):
    """`TRAINYARD_URL` and `TRAINYARD_KEY`. Other settings of a yard may be wrong: they are not the client's."""

    model_config = SettingsConfigDict(
        env_prefix="TRAINYARD_", extra="ignore", hide_input_in_errors=True, env_ignore_empty=True
    )

    url: str | None = None
    key: SecretStr | None = None


def find_address(url: str | None, key: str | None) -> tuple[str, str | None]:
    """Return the address of the yard that is meant, and the key for it.

    Args:
        url: the address; None: what `TRAINYARD_URL` says, else that of a yard on this machine.
        key: the key; None: what `TRAINYARD_KEY` says; an empty one: none, whatever that says.
    """
    found = ClientEnvironment()
    if key is None and found.key is not None:
        key = found.key.get_secret_value()
    return url or found.url or DEFAULT_URL, key or None
