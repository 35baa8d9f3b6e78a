"""A reader's terminal: a shell in a folder of its own, the programs that it leaves running, and an interpreter.

The folder has a `.venv`, as a checkout has, and a home folder in which curl says nothing but what a server answers,
and fails where that is an error.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.processes import children_of

LIMIT_S = 600
_NOT_THE_READERS = ("TRAINYARD_", "PYTEST_", "MAKE", "MFLAGS")  # of the tests, and of the `make` that may run them
POLL_S = 0.01
_CURL = "silent\nshow-error\nfail-with-body\nnoproxy = *\n"
#: Reads the names of files; runs each in one namespace, writes its status behind what it printed.
_INTERPRETER = """
import ast, asyncio, contextlib, inspect, os, sys, traceback
names = {"__name__": "__main__"}
sys.path.insert(0, ".")
for line in sys.stdin:
    script, output, ended = line.split()
    status = 0
    with open(output, "w", buffering=1) as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        try:
            with open(script) as text:
                source = text.read()
            mode = "single" if script.endswith(".single.py") else "exec"
            awaited = eval(compile(source, script, mode, flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
            if inspect.iscoroutine(awaited):
                asyncio.run(awaited)
        except BaseException:
            traceback.print_exc()
            status = 1
    with open(ended + ".new", "w") as file:
        file.write(str(status))
    os.replace(ended + ".new", ended)
"""


@dataclass
class Running:
    """A command that was typed; what it has printed so far is in a file."""

    output: Path
    ended: Path  #: has its status, once it has ended
    alive: Callable[[], bool]
    interrupt: Callable[[], None]

    @property
    def printed(self) -> str:
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    @property
    def status(self) -> int | None:
        return int(self.ended.read_text()) if self.ended.exists() else None

    def wait(self, until: Callable[[], bool] = lambda: False, limit_s: float = LIMIT_S) -> int | None:
        """Wait until something is so, or the command has ended; returns its status, or None while it runs."""
        deadline = time.monotonic() + limit_s
        while (status := self.status) is None and not until():
            assert self.alive(), f"the shell has ended\n{self.printed}"
            assert time.monotonic() < deadline, f"this takes over {limit_s} s; it has printed\n{self.printed}"
            time.sleep(POLL_S)
        return status


class Terminal:
    """Types commands into one shell, and Python into one interpreter, as long as a page lasts."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self._notes = folder / ".terminal"
        self._count = 0
        self._left_running: list[int] = []
        _furnish(folder)
        self._notes.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_THE_READERS)}
        self._environment = kept | {
            "HOME": str(folder / ".home"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "120",
        } | environment  # fmt: skip
        self._shell = self._start("bash", "--norc", "--noprofile")
        self._python: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def type(self, command: str) -> Running:
        """Run a command in the shell, where its variables stay."""
        script, output, ended = self._files("sh", command)
        self._send(self._shell, f". {script} >{output} 2>&1 </dev/null; echo $? >{ended}.new; mv {ended}.new {ended}")
        return Running(output, ended, lambda: self._shell.poll() is None, self._interrupt_foreground)

    def leave_running(self, command: str) -> Running:
        """Run a command as in a second terminal with the same variables; it ends with the page, at the latest."""
        script, output, ended = self._files("sh", command)
        pid_file = self._notes / f"{self._count}.pid"
        body = f"(trap : INT; . {script}; echo $? >{ended}.new; mv {ended}.new {ended})"
        self._send(self._shell, f"set -m; {body} >{output} 2>&1 </dev/null & echo $! >{pid_file}; set +m")
        while not (pid_file.exists() and pid_file.read_text().endswith("\n")):
            assert self._shell.poll() is None, "the shell has ended"
            time.sleep(POLL_S)
        group = int(pid_file.read_text())
        self._left_running.append(group)
        return Running(output, ended, lambda: self._shell.poll() is None, lambda: os.killpg(group, signal.SIGINT))

    def type_python(self, source: str, *, shows_value: bool = False) -> Running:
        """Run Python in the interpreter, where its names stay.

        Args:
            shows_value: print what an expression gives, as behind a prompt.
        """
        if self._python is None:
            self._python = self._start(sys.executable, "-c", _INTERPRETER)
        python = self._python
        script, output, ended = self._files("single.py" if shows_value else "py", source)
        self._send(python, f"{script} {output} {ended}")
        return Running(output, ended, lambda: python.poll() is None, lambda: python.send_signal(signal.SIGINT))

    def close(self) -> None:
        """End what still runs."""
        for group in self._left_running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGINT)
        deadline = time.monotonic() + 60
        while any(map(_group_lives, self._left_running)) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        for group in self._left_running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        for process in (self._shell, self._python):
            if process is not None:
                assert process.stdin is not None
                process.stdin.close()
                for child in children_of(process.pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(child, signal.SIGTERM)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def _files(self, ending: str, text: str) -> tuple[Path, Path, Path]:
        self._count += 1
        script = self._notes / f"{self._count}.{ending}"
        script.write_text(text + "\n")
        return script, self._notes / f"{self._count}.output", self._notes / f"{self._count}.status"

    def _start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=_hear_ctrl_c,
        )

    def _send(self, process: subprocess.Popen[str], line: str) -> None:
        assert process.stdin is not None
        process.stdin.write(line + "\n")
        process.stdin.flush()

    def _interrupt_foreground(self) -> None:
        """What Ctrl-C sends to all that the shell waits for; the shell itself goes on."""
        waiting = [pid for pid in children_of(self._shell.pid) if pid not in self._left_running]
        while waiting:
            pid = waiting.pop()
            waiting += children_of(pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)


def _hear_ctrl_c() -> None:
    """A shell can't trap what was ignored when it began, as SIGINT is in what a script leaves in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _furnish(folder: Path) -> None:
    """What a reader has: a home, and the checkout's `.venv`, which `make` finds to be up to date."""
    (folder / ".home").mkdir(parents=True, exist_ok=True)
    (folder / ".home" / ".curlrc").write_text(_CURL)
    (folder / ".venv").mkdir()
    for entry in Path(sys.prefix).iterdir():
        if entry.name != ".set-up":
            (folder / ".venv" / entry.name).symlink_to(entry)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (folder / name).write_bytes((Path(__file__).parents[2] / name).read_bytes())
    (folder / ".venv" / ".set-up").touch()
