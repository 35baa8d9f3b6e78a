"""What the commands read of an answer: fields by name."""

from __future__ import annotations

from typing import Any, Protocol


class Row(Protocol):
    """An object of an answer, whose fields are read by the names that the API gives them."""

    def __getitem__(self, name: str, /) -> Any:
        """Return a field."""
        ...
