"""The calls that web processes make of the engine: each is an async method of `Engine`, by its name.

Arguments and results are what pydantic can turn into JSON and back by their annotations. An argument that is a list of
byte strings, and a result's, travel beside the JSON.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Sequence
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from api.serving.interface import ServingEngine

_OF_ONE_PROCESS = {"stop"}
NAMES = {name for name, member in vars(ServingEngine).items() if inspect.iscoroutinefunction(member)} - _OF_ONE_PROCESS


class Call:
    """How the arguments and the result of one method travel."""

    def __init__(self, name: str) -> None:
        hints = typing.get_type_hints(getattr(ServingEngine, name))
        self.name = name
        self._result = TypeAdapter[Any](hints.pop("return"))
        self._arguments = {key: TypeAdapter[Any](hint) for key, hint in hints.items() if hint != list[bytes]}
        self._bytes = next((key for key, hint in hints.items() if hint == list[bytes]), None)

    def pack(self, arguments: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        """Return arguments as JSON values and byte strings."""
        parts = arguments.get(self._bytes, []) if self._bytes is not None else []
        return {
            key: adapter.dump_python(arguments[key], mode="json")
            for key, adapter in self._arguments.items()
            if key in arguments
        }, parts

    def unpack(self, values: dict[str, Any], parts: Sequence[bytes]) -> dict[str, Any]:
        """Return the arguments that `pack` packed."""
        arguments = {key: self._arguments[key].validate_python(value) for key, value in values.items()}
        return arguments if self._bytes is None else {**arguments, self._bytes: list(parts)}

    def pack_result(self, result: Any) -> Any:
        """Return a result as JSON values."""
        return self._result.dump_python(result, mode="json")

    def unpack_result(self, value: Any) -> Any:
        """Return the result that `pack_result` packed."""
        return self._result.validate_python(value)


@cache
def get_call(name: str) -> Call:
    """Return the call of this name.

    Raises:
        KeyError: the engine has none.
    """
    if name not in NAMES:
        raise KeyError(name)
    return Call(name)
