"""Readers of pickles that treat opcodes as data and can't run anything; one reads CIFAR's files. Torch-free.

`pickle.Unpickler` calls what a file tells it to call. A restricted `find_class` prevents that, but a few bytes (a memo
index, a length, a tuple as a key) still make it reserve gigabytes or compute for years. The standard library's
`pickletools` lists a pickle's opcodes without acting on them. So the opcodes are followed here, and only those that
such files need: bytes, texts, whole numbers, lists, dictionaries, and numpy's arrays of bytes, which are recognised and
not called. A subclass of `PickleReader` can recognise the content of other files: `alexnet_core.export.torch_reader`
recognises torch's tensors.
"""

from __future__ import annotations

import pickletools
from collections.abc import Mapping
from math import prod
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray


class PickleRefused(ValueError):
    """The pickle is damaged, or contains what no published file needs."""


def read_pickle(data: bytes) -> dict[str, Any]:
    """Read the dictionary in a pickle of protocol 2 from Python 2, as in the published files of CIFAR.

    Returns:
        Keys as text. Values are bytes, str, int, bool, None, lists, tuples and dictionaries of these, or uint8 arrays.

    Raises:
        PickleRefused: it is cut off, no dictionary, or would need anything but the above.
    """
    found = _CifarReader().read(data)
    if not isinstance(found, dict):
        raise PickleRefused(f"it holds a {type(found).__name__}, not a dictionary")
    return {key: value.pixels if isinstance(value, _Array) else value for key, value in found.items()}


class _Array:
    """A placeholder for an array whose description is being read."""

    def __init__(self) -> None:
        self.pixels: NDArray[np.uint8] | None = None

    def build(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or state[2] is not _BYTES:
            raise PickleRefused("it holds an array of something other than bytes")
        _, shape, _, is_fortran, content = state
        if not isinstance(shape, tuple) or not all(type(side) is int and 0 <= side < 2**32 for side in shape):
            raise PickleRefused("it holds an array with an impossible shape")
        if not isinstance(content, bytes) or len(content) != prod(shape):
            raise PickleRefused(f"it holds an array of {shape} without as many bytes")
        flat = np.frombuffer(content, dtype=np.uint8)
        self.pixels = flat.reshape(shape, order="F" if is_fortran else "C")


_MARK: Final = object()
_RECONSTRUCT, _NDARRAY, _DTYPE, _BYTES = (object() for _ in range(4))
_GLOBALS = {
    "numpy.core.multiarray _reconstruct": _RECONSTRUCT,
    "numpy._core.multiarray _reconstruct": _RECONSTRUCT,  # since numpy 2
    "numpy ndarray": _NDARRAY,
    "numpy dtype": _DTYPE,
}
_INTEGERS = frozenset({"BININT", "BININT1", "BININT2", "LONG1", "INT"})
_TEXTS = frozenset({"BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"})
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


class PickleReader:
    """Follows a pickle's opcodes with a stack and a memo, and never calls anything on them.

    A subclass says which names it knows, and what replaces a call of one.
    """

    def __init__(self, globals_: Mapping[str, object]) -> None:
        """Make a reader for one pickle.

        Args:
            globals_: what stands for `module name`; any other name is refused.
        """
        self._globals = globals_
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def read(self, source: bytes | IO[bytes]) -> Any:
        """Return the content of a pickle. A stream is read up to the end of the pickle.

        Raises:
            PickleRefused: it is cut off, or would need what is not known.
        """
        try:
            for opcode, argument, position in pickletools.genops(source):
                if not self._follow(opcode.name, argument):
                    raise PickleRefused(f"it holds {opcode.name} at byte {position}, which no published file needs")
            return self.pop()
        except PickleRefused:
            raise
        except (ValueError, IndexError, KeyError, TypeError) as exc:
            raise PickleRefused(f"it is damaged: {exc!s:.200}") from exc

    def reduce(self, target: object, arguments: object) -> object:
        """Return what replaces a call of `target`."""
        raise PickleRefused("it asks for a call that no published file needs")

    def build(self, target: object, state: object) -> bool:
        """Give an object its state. False: this reader knows no state for it."""
        return False

    def load_persistent(self, description: object) -> object:
        """Return what replaces a reference to something outside the pickle."""
        raise PickleRefused("it refers to something outside the pickle")

    def pop(self) -> Any:
        """Remove the value on top of the stack and return it."""
        value = self._stack.pop()
        if value is _MARK:
            raise PickleRefused("it is damaged: a mark is missing")
        return value

    def _follow(self, name: str, argument: Any) -> bool:
        """Execute one opcode. False: it is not one of the few that are needed."""
        push = self._stack.append
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "MARK":
                push(_MARK)
            case _ if name in _INTEGERS | _TEXTS:
                push(argument)
            case _ if name in _CONSTANTS:
                push(_CONSTANTS[name])
            case "BINSTRING" | "SHORT_BINSTRING":  # Python 2's str, which pickletools shows as Latin-1
                push(argument.encode("latin-1"))
            case "EMPTY_LIST":
                push([])
            case "EMPTY_DICT":
                push({})
            case "TUPLE":
                push(tuple(self._pop_to_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                push(tuple([self.pop() for _ in range(int(name[-1]))][::-1]))
            case "APPEND" | "APPENDS":
                values = [self.pop()] if name == "APPEND" else self._pop_to_mark()
                self._top(list).extend(values)
            case "SETITEM" | "SETITEMS":
                values = [self.pop(), self.pop()][::-1] if name == "SETITEM" else self._pop_to_mark()
                for key, value in zip(values[::2], values[1::2], strict=True):
                    self._top(dict)[_as_text(key)] = value
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self._stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = self._stack[-1]
            case "BINGET" | "LONG_BINGET":
                push(self._memo[argument])
            case "GLOBAL":
                push(self._find_global(argument))
            case "STACK_GLOBAL":
                attribute, module = self.pop(), self.pop()
                push(self._find_global(f"{_as_text(module)} {_as_text(attribute)}"))
            case "REDUCE":
                arguments, target = self.pop(), self.pop()
                push(self.reduce(target, arguments))
            case "BINPERSID":
                push(self.load_persistent(self.pop()))
            case "BUILD":
                state, target = self.pop(), self._stack[-1]
                return self.build(target, state)
            case _:
                return False
        return True

    def _top(self, kind: type[Any]) -> Any:
        if type(self._stack[-1]) is not kind:
            raise PickleRefused(f"it is damaged: a {kind.__name__} is missing")
        return self._stack[-1]

    def _pop_to_mark(self) -> list[Any]:
        values: list[Any] = []
        while (value := self._stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def _find_global(self, name: str) -> object:
        if name not in self._globals:
            raise PickleRefused(f"it asks for {name.replace(' ', '.')!r:.100}, which no published file needs")
        return self._globals[name]


class _CifarReader(PickleReader):
    """Reads numpy's arrays of bytes, and nothing else."""

    def __init__(self) -> None:
        super().__init__(_GLOBALS)

    def reduce(self, target: object, arguments: object) -> object:
        if isinstance(arguments, tuple) and arguments:
            if target is _RECONSTRUCT and arguments[0] is _NDARRAY:
                return _Array()
            if target is _DTYPE and arguments[0] in (b"u1", "u1"):
                return _BYTES
        raise PickleRefused("it asks for something other than an array of bytes")

    def build(self, target: object, state: object) -> bool:
        if isinstance(target, _Array):
            target.build(state)
        return isinstance(target, _Array) or target is _BYTES  # a type of bytes has no state that matters


def _as_text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("ascii")
    if isinstance(value, str):
        return value
    raise PickleRefused(f"it has a {type(value).__name__} where a name belongs")
