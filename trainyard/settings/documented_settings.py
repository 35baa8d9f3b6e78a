"""What all groups of settings have in common: where a setting is read, and that the text below a field documents it."""

from __future__ import annotations

from pydantic_settings import BaseSettings, SettingsConfigDict


class DocumentedSettings(BaseSettings):
    """Settings of which each field is the environment variable `TRAINYARD_<NAME>`.

    Of a group, the first line is its heading in the documentation.
    """

    model_config = SettingsConfigDict(
        env_prefix="TRAINYARD_", extra="ignore", use_attribute_docstrings=True, hide_input_in_errors=True
    )
