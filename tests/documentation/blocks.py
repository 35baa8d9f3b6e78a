"""The code blocks of a page, and the commands in a block of a terminal's text."""

from __future__ import annotations

import re
import subprocess
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROMPT = "$ "
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"`(\w+\.py)`")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str  #: path from the root of the repository
    line: int  #: of its first line of text
    language: str  #: empty: none is named
    text: str  #: without the block's own indentation
    before: str  #: the paragraph that stands right before it, in one line

    @property
    def first_line(self) -> str:
        return self.text.partition("\n")[0]

    @property
    def is_session(self) -> bool:
        """Whether it shows commands behind a prompt, with what they print."""
        return not self.language and any(line.startswith(PROMPT) for line in self.text.splitlines())

    @property
    def is_output(self) -> bool:
        """Whether it shows text alone: what the command before it prints later, or no output at all."""
        return not self.language and not self.is_session

    @property
    def file_name(self) -> str | None:
        """The Python file that the sentence before it names."""
        named = _FILE.findall(self.before) if self.before.endswith(":") and self.language == "python" else []
        return named[-1] if named else None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A command as it is typed, and what stands below it."""

    line: int
    text: str
    output: str

    @property
    def first_line(self) -> str:
        return self.text.partition("\n")[0]


def blocks_of(page: Path) -> list[Block]:
    """Every fenced block, from the top to the bottom."""
    text, found = page.read_text(), []
    for match in _FENCE.finditer(text):
        above = text[: match.start()].rstrip("\n")
        before = " ".join(above.rpartition("\n\n")[2].split())
        line = text.count("\n", 0, match.start("text")) + 1
        name = str(page.relative_to(ROOT))
        found.append(Block(name, line, match["language"], textwrap.dedent(match["text"]), before))
    return found


def commands_of(block: Block) -> Iterator[Command]:
    """Yield the commands of a terminal's text, or of a script, in which every line that is whole is one."""
    lines = block.text.splitlines()
    number = 0
    while number < len(lines):
        if block.is_session:
            assert lines[number].startswith(PROMPT), f"{block}: {lines[number]!r} is the output of no command"
        elif not lines[number].strip():
            number += 1
            continue
        first = number
        typed = [lines[number].removeprefix(PROMPT)]
        while not is_whole("\n".join(typed)):
            number += 1
            assert number < len(lines), f"{block}: {typed[0]!r} does not end"
            typed.append(lines[number])
        number += 1
        printed = number
        while block.is_session and number < len(lines) and not lines[number].startswith(PROMPT):
            number += 1
        yield Command(block.line + first, "\n".join(typed), "\n".join(lines[printed:number]).strip("\n"))


def is_whole(command: str) -> bool:
    """Whether a shell would run it rather than ask for another line."""
    if command.endswith("\\"):
        return False
    run = subprocess.run(
        ["bash", "-n"], input=command, capture_output=True, text=True, env={"LC_ALL": "C"}, check=False
    )
    return not any(
        sign in run.stderr for sign in ("unexpected end of file", "unexpected EOF", "delimited by end-of-file")
    )
