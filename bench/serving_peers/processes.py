"""A server as a tree of processes: started, asked, frozen while others are measured, weighed, and ended."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import time
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.serving_peers.messages import Message

_MARK = "SERVING_PEERS_TREE"  # an environment variable by which processes are found that left the tree
_END_S, _LEFT_S = 20, 1  #: that a server has to end, and then what it left behind


class NoAnswer(Exception):
    """A server did not start, or gave no answer that says success."""


class ServerProcess:
    """A server that was started, with all processes that it has started since.

    Args:
        command: what is run.
        environment: all its variables.
        folder: its working folder; its log is `server.log` there.
        port: where it will listen.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path, port: int) -> None:
        self.port = port
        self._log_path, self._mark = folder / "server.log", uuid.uuid4().hex
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env={**environment, _MARK: self._mark},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_until_answering(self, path: str, message: Message, timeout_s: float) -> bytes:
        """Ask until the answer says success, and return its body.

        Raises:
            NoAnswer: the process ended, or there was none in time.
        """
        deadline, last = time.monotonic() + timeout_s, "nothing listened"
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise NoAnswer(f"it ended with status {self._process.returncode}: {self._log_tail()}")
            try:
                return self.ask(path, message)
            except (OSError, http.client.HTTPException, NoAnswer) as exc:
                last = str(exc) or type(exc).__name__
                time.sleep(0.2)
        raise NoAnswer(f"no answer within {timeout_s:.0f} s ({last}): {self._log_tail()}")

    def ask(self, path: str, message: Message) -> bytes:
        """Send one request and return the answer's body.

        Raises:
            NoAnswer: its status is not 200.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("POST", path, message.body, message.headers)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise NoAnswer(f"status {answer.status}: {body[:300].decode(errors='replace')}")
        return body

    def freeze(self) -> None:
        """Stop every process, so that none takes time from the server that is measured."""
        self._signal(signal.SIGSTOP)
        self._signal(signal.SIGSTOP)  # those that were being started

    def thaw(self) -> None:
        """Let the processes go on."""
        self._signal(signal.SIGCONT)

    def memory_bytes(self) -> int:
        """Return what the tree takes of memory."""
        return sum_memory([text for pid in self.find_pids() if (text := _read(f"/proc/{pid}/smaps"))])

    def cpu_s(self) -> float:
        """Return how long the processes of the tree have been on a core, with their children that have ended."""
        ticks = sum(sum_ticks(text) for pid in self.find_pids() if (text := _read(f"/proc/{pid}/stat")))
        return ticks / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """End every process, politely first."""
        before = {pid: _read_start(pid) for pid in self.find_pids()}
        self.thaw()
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        deadline = time.monotonic() + _LEFT_S
        while (left := self._find_left(before)) and time.monotonic() < deadline:
            time.sleep(0.1)
        for pid in left:
            _send(pid, signal.SIGKILL)
        self._process.wait()

    def find_pids(self) -> set[int]:
        """Return the processes of the tree, and those that were started from it and left it."""
        below = defaultdict(list)
        for stat in Path("/proc").glob("[0-9]*/stat"):
            if text := _read(stat):
                below[int(text.rpartition(")")[2].split()[1])].append(int(stat.parent.name))
        found, waiting = self._find_marked(), [self._process.pid]
        if self._process.poll() is None:
            found.add(self._process.pid)
        while waiting:
            children = below[waiting.pop()]
            found.update(children)
            waiting += children
        return found

    def _find_left(self, before: Mapping[int, str]) -> set[int]:
        """Return what still runs, also of those that lost their parent; a number that was given anew is not meant."""
        return self._find_marked() | {pid for pid, start in before.items() if start and _read_start(pid) == start}

    def _find_marked(self) -> set[int]:
        mark = f"{_MARK}={self._mark}"
        found = (path for path in Path("/proc").glob("[0-9]*/environ") if mark in _read(path).split("\0"))
        return {int(path.parent.name) for path in found}

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.find_pids():
            _send(pid, number)

    def _log_tail(self) -> str:
        lines = _read(self._log_path).strip().splitlines()
        return " | ".join(lines[-5:])[-1000:]


def sum_memory(smaps: Sequence[str]) -> int:
    """Return what processes take together, by the contents of their `/proc/PID/smaps`.

    Anonymous and shared memory counts by its proportional share (PSS). A file's pages count once, as the largest part
    that one of the processes has in memory, whoever else maps the file: the servers of a benchmark share libraries
    that each would have to hold alone.
    """
    proportional, by_file = 0, defaultdict[str, int](int)
    for text in smaps:
        of_process = defaultdict[str, int](int)
        name, resident = "", 0
        for line in text.splitlines():
            key, _, value = line.partition(":")
            if not key[:1].isupper():  # the head of a mapping: addresses, rights, offset, device, inode, path
                fields = line.split(maxsplit=5)
                name = fields[5] if len(fields) == 6 and fields[4] != "0" else ""
            elif key == "Rss":
                resident = int(value.split()[0])
            elif key == "Pss":
                pss = int(value.split()[0])
            elif key == "Anonymous":
                anonymous = int(value.split()[0])
                if not name or name.startswith(("/dev/shm/", "/memfd:", "/SYSV")):
                    proportional += pss
                else:
                    proportional += anonymous  # private copies of a file's pages
                    of_process[name] += resident - anonymous
        for file, kilobytes in of_process.items():
            by_file[file] = max(by_file[file], kilobytes)
    return 1024 * (proportional + sum(by_file.values()))


def sum_ticks(stat: str) -> int:
    """Return the kernel's ticks in a process's `/proc/PID/stat`: its own and its ended children's, user and system."""
    return sum(int(field) for field in stat.rpartition(")")[2].split()[11:15])


def read_environment() -> dict[str, str]:
    """Return the variables that a server may see: none of Trainyard's or of an active environment."""
    dropped = ("TRAINYARD_", "PYTHON", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)}


def _read(path: Path | str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:  # it has ended
        return ""


def _read_start(pid: int) -> str:
    """Return when a process was started, in the kernel's ticks; empty: it has ended."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19] if fields and fields[0] != "Z" else ""


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
