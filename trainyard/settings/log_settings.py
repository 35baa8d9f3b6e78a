"""The settings of what a yard says of itself, and of tests that break it."""

from __future__ import annotations

from typing import Self

from pydantic import Field, field_validator, model_validator

from trainyard.settings.documented_settings import DocumentedSettings
from trainyard.settings.setting_types import Endpoint


class LogSettings(DocumentedSettings):
    """Logs, traces and tests."""

    log_level: str = "INFO"
    """Least severe level that is logged: DEBUG, INFO, WARNING or ERROR."""

    otlp_endpoint: Endpoint | None = None
    """`http(s)://host:port` of a collector of traces by OTLP over HTTP. Needs the extra `otel`. Default: no traces."""

    otlp_sample_share: float = Field(1, ge=0, le=1)
    """Share of the requests and jobs that are traced, unless the caller's `traceparent` decides."""

    testing: bool = False
    """Allows `failpoints`. Never set it on a yard with real work."""

    failpoints: str = ""
    """For tests: `name=value,…`, passed to the trainer. Refused unless `testing` is set."""

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, level: str) -> str:
        if level.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise ValueError(f"log_level is {level!r}: use DEBUG, INFO, WARNING or ERROR")
        return level.upper()

    @model_validator(mode="after")
    def _failpoints_only_in_tests(self) -> Self:
        if self.failpoints and not self.testing:
            raise ValueError("failpoints break jobs on purpose: they need TRAINYARD_TESTING=1")
        return self

    @property
    def failpoint_values(self) -> dict[str, str]:
        """The setting `failpoints` as a dictionary."""
        pairs = (item.partition("=") for item in self.failpoints.split(",") if item)
        return {name.strip(): value.strip() for name, _, value in pairs}
