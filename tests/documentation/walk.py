"""Does what a page says, from its top to its bottom, and compares what is printed with what stands there."""

from __future__ import annotations

import doctest
import functools
import re
import time
from collections.abc import Callable
from pathlib import Path

from tests.documentation.blocks import ROOT, Block, Command, blocks_of, commands_of
from tests.documentation.comparison import Names, difference
from tests.documentation.not_run import find_reason
from tests.documentation.terminal import Running, Terminal

AGAIN_S = 0.2
UNCHANGED_S = 120.0  #: an answer that is asked for again and stays the same that long, stays so
_ADDRESS = re.compile(r"\b(localhost|127\.0\.0\.1):(\d+)\b")
_SERVER = re.compile(r"^(?:\w+=\S+ )*(?:make up|(?:\.venv/bin/)?trainyard (?:up|api|worker)\b)")
_READS = re.compile(r"^(?:curl|psql|celery|trainyard (?:show|jobs|queue|workers)) ")
_WRITES = re.compile(r" (?:-X|-d|-F|-T|--data|--json|-o)\b|CREATE")
INTERRUPT = "^C"


class Walk:
    """One reader on one page."""

    def __init__(self, page: str, terminal: Terminal, ports: dict[int, int], names: Names) -> None:
        """
        Args:
            ports: what listens where, by the port that the page has.
            names: what stands ready for the ids that no command of the page prints first.
        """
        self._blocks = blocks_of(ROOT / page)
        self._terminal = terminal
        self._ports = ports
        self._names = names
        self._server: Running | None = None
        self._ask: Callable[[], Running] | None = None  #: the last command, if it may be asked again
        self._last: Running | None = None

    def run(self) -> None:
        """Run every block that is not in the table of those that can't be."""
        for block in self._blocks:
            if find_reason(block.page, block.first_line):
                continue
            if block.file_name is not None:
                self._write(block)
            elif block.language == "python":
                self._run_python(block)
            elif block.is_output:
                self._compare_later_output(block)
            else:
                assert block.language in {"", "bash", "sh"}, f"{block}: no test can run {block.language}"
                for command in commands_of(block):
                    if not find_reason(block.page, command.first_line):
                        self._run(block, command)

    def _write(self, block: Block) -> None:
        name = str(block.file_name)
        later = [it for it in self._blocks if it.line > block.line]
        assert any(name in it.text for it in later), f"{block}: no command of the page uses {name}"
        (self._terminal.folder / name).write_text(self._typed(block.text))

    def _run(self, block: Block, command: Command) -> None:
        where = f"{block.page}:{command.line}: {command.text}"
        typed = self._typed(command.text)
        if _SERVER.match(typed):
            self._run_server(where, typed, command.output)
            return
        ask = functools.partial(self._terminal.type, typed)
        self._ask = ask if _READS.match(typed) and not _WRITES.search(typed) else None
        running = ask()
        self._last = running
        before, interrupt, after = command.output.partition(INTERRUPT)
        if interrupt:
            self._wait_for_output(running, before + "…")
            running.interrupt()
        running.wait()
        self._names.see(running.printed)
        if not block.is_session:
            assert running.status == 0, f"{where}\nended with {running.status}\n{running.printed}"
            return
        self._compare(where, before.rstrip() + "\n" * bool(interrupt) + after, running)
        if not command.output:
            assert running.status == 0, f"{where}\nended with {running.status}\n{running.printed}"

    def _run_server(self, where: str, typed: str, shown: str) -> None:
        """Leave it running once it has printed what stands there, up to where the page stops it."""
        before, interrupt, after = shown.partition(INTERRUPT)
        server = self._terminal.leave_running(typed.removesuffix("&"))
        self._wait_for_output(server, before)
        self._compare(where, before, server)
        self._server, self._ask, self._last = server, None, server
        if interrupt:
            self._stop_server(where, after)

    def _wait_for_output(self, running: Running, shown: str) -> None:
        """Wait until it has printed this, or has ended, or prints nothing more."""
        seen, deadline = "", time.monotonic() + UNCHANGED_S

        def is_over() -> bool:
            nonlocal seen, deadline
            if (printed := running.printed) != seen:
                seen, deadline = printed, time.monotonic() + UNCHANGED_S
            names = Names(dict(self._names.real), dict(self._names.latest))
            return difference(shown, printed, names) is None or time.monotonic() > deadline

        running.wait(is_over)

    def _stop_server(self, where: str, shown: str) -> None:
        assert self._server is not None, f"{where}\nno server runs"
        before = len(self._server.printed)
        self._server.interrupt()
        self._server.wait()
        wrong = difference(shown, self._server.printed[before:], self._names)
        assert wrong is None, f"{where}\n{wrong}"
        self._server = None

    def _compare(self, where: str, shown: str, running: Running) -> None:
        """Compare; where a command only asks, ask again until it is so, or nothing changes any more."""
        printed, deadline = running.printed, time.monotonic() + UNCHANGED_S
        while (wrong := difference(shown, printed, self._names)) is not None:
            may_change = self._ask is not None and time.monotonic() < deadline
            assert may_change, f"{where}\n{wrong}"
            assert self._ask is not None
            time.sleep(AGAIN_S)
            running = self._ask()
            running.wait()
            if running.printed != printed:
                printed, deadline = running.printed, time.monotonic() + UNCHANGED_S

    def _compare_later_output(self, block: Block) -> None:
        assert self._last is not None, f"{block}: this is the output of no command"
        if block.text.startswith(INTERRUPT):
            self._stop_server(str(block), block.text.removeprefix(INTERRUPT))
        else:
            self._compare(str(block), block.text, self._last)

    def _run_python(self, block: Block) -> None:
        examples = doctest.DocTestParser().get_examples(block.text) if block.text.startswith(">>> ") else []
        for example in examples:
            ask = functools.partial(self._run_source, block, example.source, shows_value=True)
            running = ask()
            self._ask = ask if example.source.startswith(("client.get_", "client.list_")) else None
            self._compare(f"{block}: {example.source}", example.want, running)
        self._ask = None
        if not examples:
            self._last = self._run_source(block, block.text)

    def _run_source(self, block: Block, source: str, *, shows_value: bool = False) -> Running:
        running = self._terminal.type_python(self._typed(source), shows_value=shows_value)
        status = running.wait()
        assert status == 0, f"{block}\n{running.printed}"
        return running

    def _typed(self, text: str) -> str:
        return self._names.put_into(_ADDRESS.sub(self._address, text))

    def _address(self, shown: re.Match[str]) -> str:
        host, port = shown[1], int(shown[2])
        return f"{host}:{self._ports.get(port, port)}"


def walk(page: str, terminal: Terminal, ports: dict[int, int], names: Names | None = None) -> None:
    """Run a page."""
    Walk(page, terminal, ports, names or Names()).run()


def pages() -> list[str]:
    """Every page of the documentation, by its path from the root."""
    return [str(path.relative_to(ROOT)) for path in [Path(ROOT, "README.md"), *sorted((ROOT / "docs").rglob("*.md"))]]
