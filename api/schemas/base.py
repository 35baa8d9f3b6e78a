"""What all bodies share: times, pages, and the model settings for requests and responses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from trainyard.json_values import finite

#: A model of a response. It is read from the attributes of a row; a field's docstring is its description.
DESCRIBED = ConfigDict(
    from_attributes=True, use_attribute_docstrings=True, json_schema_serialization_defaults_required=True
)
#: A model of a request: nothing is converted, and an unknown field is refused.
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)


def to_time(seconds: float | None) -> datetime | None:
    """Convert seconds since 1970 to a time in UTC; None stays None."""
    return None if seconds is None else datetime.fromtimestamp(round(seconds, 3), UTC)


Time = Annotated[datetime, BeforeValidator(to_time)]
"""A time that is stored as seconds since 1970."""

FiniteObject = Annotated[dict[str, Any], BeforeValidator(finite)]
"""A JSON object in which NaN and infinities are null."""


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def without_controls(text: str) -> str:
    """Refuse text that can't be stored or shown.

    Raises:
        ValueError: it holds a control character.
    """
    if _CONTROL.search(text):
        raise ValueError("control characters are not allowed")
    return text


_CONTROL_IN_LINES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def _clean_lines(text: str) -> str:
    """Return text of several lines, each ended by a line feed alone: a page on Windows may send two characters.

    Raises:
        ValueError: it holds another control character.
    """
    lines = text.replace("\r\n", "\n")
    if _CONTROL_IN_LINES.search(lines):
        raise ValueError("control characters other than line breaks and tabs are not allowed")
    return lines


Note = Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(_clean_lines)]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(without_controls)]
Reference = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(without_controls)]


class RowView:
    """A row combined with values that are not in its columns, from which a model is read."""

    def __init__(self, row: object, **beside: object) -> None:
        self._row = row
        self.__dict__.update(beside)  # goes before the row's attribute of that name

    def __getattr__(self, name: str) -> Any:
        """See the class."""
        return getattr(self._row, name)


Item = TypeVar("Item", bound=BaseModel)


class ListRead(BaseModel, Generic[Item]):
    """One page of a list, newest first unless its route says otherwise. For the next one use `?after=<last_id>`."""

    object: Literal["list"] = "list"
    data: list[Item]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, items: Sequence[Item], *, has_more: bool, key: str = "id") -> Self:
        """Build a page of items that are identified by their field `key`."""
        ids = [str(getattr(item, key)) for item in items]
        return cls(
            data=list(items), first_id=ids[0] if ids else None, last_id=ids[-1] if ids else None, has_more=has_more
        )
