"""Writes `trainyard/client/synchronous`: the code of `trainyard/client/asynchronous` without `async` and `await`.

So every method, its types and its documentation stand once. Run by `make client`. In both folders `waiting.py` is
written by hand.

    python -m generation.synchronous_client [trainyard/client/synchronous]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import unasync

SOURCES = Path(__file__).parent.parent / "trainyard" / "client" / "asynchronous"
TARGET = SOURCES.parent / "synchronous"
BY_HAND = frozenset({"__init__.py", "waiting.py"})
NOTE = "# Written by `make client` from the module of this name in `trainyard.client.asynchronous`; not to be edited.\n"
#: Names that differ beside `async` and `await`; what begins with `Async` only loses that.
NAMES = {
    "asynchronous": "synchronous",
    "AsyncIterable": "Iterable",
    "AsyncIterator": "Iterator",
    "aread": "read",
    "aclose": "close",
    "aiter_bytes": "iter_bytes",
    "aiter_sse": "iter_sse",
    "aconnect_sse": "connect_sse",
}
TEXTS = {
    "whose calls are awaited": "whose calls return when they are done",
    "AsyncClient": "Client",
    "async with ": "with ",
    "await ": "",
}


def write_client() -> dict[str, str]:
    """Return the modules by their file's names."""
    paths = [path for path in sorted(SOURCES.glob("*.py")) if path.name not in BY_HAND]
    names = {f"Async{name}": name for path in paths for name in _names_of(path)} | NAMES
    with tempfile.TemporaryDirectory() as folder:
        rule = unasync.Rule(f"{SOURCES}/", f"{folder}/", additional_replacements=names)
        unasync.unasync_files([str(path) for path in paths], [rule])
        for path in Path(folder).glob("*.py"):
            path.write_text(
                NOTE
                + path.read_text("utf-8").replace("whose calls are awaited", "whose calls return when they are done"),
                "utf-8",
            )
        for command in (["check", "--fix", "--unsafe-fixes", "--quiet"], ["format", "--quiet"]):
            config = ["--config", str(SOURCES.parents[2] / "pyproject.toml")]
            subprocess.run([sys.executable, "-m", "ruff", *command, *config, folder], check=False, capture_output=True)
        return {path.name: path.read_text("utf-8") for path in sorted(Path(folder).glob("*.py"))}


def _names_of(path: Path) -> set[str]:
    """Return what follows `Async` in the names of a module."""
    words = path.read_text("utf-8").replace("(", " ").replace(")", " ").replace(".", " ").replace("[", " ")
    found = {word.strip("],:`") for word in words.split() if word.startswith("Async")}
    return {word.removeprefix("Async").partition("]")[0] for word in found if word.isidentifier()}


if __name__ == "__main__":
    folder = Path(*sys.argv[1:2]) if sys.argv[1:] else TARGET
    for name, text in write_client().items():
        (folder / name).write_text(text, "utf-8")
