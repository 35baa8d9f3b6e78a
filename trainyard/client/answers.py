"""What a yard answers, as typed objects that lose nothing of it."""

from __future__ import annotations

from functools import cache
from typing import Any, Self, cast

from pydantic import BaseModel, ConfigDict, PrivateAttr, TypeAdapter, ValidationError


class Answer(BaseModel):
    """An object of the API. Its fields are attributes: `job.state`, `job.progress.epoch`, `job.created_at`.

    In brackets it gives the JSON that came, with the API's names: `job["created_at"]` is a text. A yard of another
    version is read as far as possible: a field that this version does not know is kept, one that does not come is no
    attribute, and one of another form is what came.
    """

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    _json: dict[str, Any] | None = PrivateAttr(default=None)

    @classmethod
    def read(cls, json: dict[str, Any]) -> Self:
        """Build it from what came."""
        try:
            answer = cls.model_validate(json)
        except ValidationError:
            answer = cls._read_what_fits(json)
        answer._json = json
        return answer

    @classmethod
    def _read_what_fits(cls, json: dict[str, Any]) -> Self:
        values = dict(json)
        for name, field in cls.model_fields.items():
            key = field.alias or name
            if key in values:
                values[name] = _read_value(cls, name, values.pop(key))
        return cast(Self, cls.model_construct(set(values), **values))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON that came."""
        return self.model_dump(mode="json", by_alias=True) if self._json is None else self._json

    def __getitem__(self, name: str) -> Any:
        """Return a field of the JSON that came."""
        return self.to_json()[name]

    def __contains__(self, name: str) -> bool:
        """Whether the JSON that came has a field."""
        return name in self.to_json()

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field of the JSON that came, or `default`."""
        return self.to_json().get(name, default)

    def keys(self) -> list[str]:
        """Return the names of the fields that came, so that `dict(answer)` is the JSON."""
        return list(self.to_json())

    def __eq__(self, other: object) -> bool:
        """Whether the other is the same answer, or its JSON."""
        if isinstance(other, Answer):
            return type(self) is type(other) and self.to_json() == other.to_json()
        return bool(self.to_json() == other)

    __hash__ = None  # type: ignore[assignment]  # it can be changed


def _read_value(model: type[Answer], name: str, value: Any) -> Any:
    """Return a field's value in its type; what came, if it has another form."""
    try:
        return _adapter(model, name).validate_python(value)
    except ValidationError:
        annotation = model.model_fields[name].annotation
        if isinstance(value, dict) and isinstance(annotation, type) and issubclass(annotation, Answer):
            return annotation.read(value)
        return value


@cache
def _adapter(model: type[Answer], name: str) -> TypeAdapter[Any]:
    annotation: Any = model.model_fields[name].annotation
    return TypeAdapter(annotation)
