"""Errors that a client may see, as data that can travel from one process to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from trainyard.errors import ServiceError


@dataclass(frozen=True)
class Refusal:
    """What an error says."""

    kind: str  #: the name of its class
    message: str
    param: str | None
    retry_after_s: int | None

    @classmethod
    def of(cls, error: ServiceError) -> Self:
        """Describe an error."""
        return cls(type(error).__name__, error.message, error.param, error.retry_after_s)

    def to_error(self) -> ServiceError:
        """Return the error again; one of an unknown class becomes an internal error."""
        kind = _classes().get(self.kind, ServiceError)
        return kind(self.message, param=self.param, retry_after_s=self.retry_after_s)


def _classes() -> dict[str, type[ServiceError]]:
    found: dict[str, type[ServiceError]] = {}
    to_look_at: list[type[ServiceError]] = [ServiceError]
    while to_look_at:
        kind = to_look_at.pop()
        found[kind.__name__] = kind
        to_look_at += kind.__subclasses__()
    return found


def say_which(error: BaseException, number: int, num_images: int) -> BaseException:
    """Return the error of one image of several so that it says which one it is."""
    if isinstance(error, ServiceError) and num_images > 1:
        return type(error)(f"image {number}: {error.message}", param="inputs", retry_after_s=error.retry_after_s)
    return error
