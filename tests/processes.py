"""Processes by /proc: whose they are, and whether they still run."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def children_of(pid: int) -> list[int]:
    """The processes that it started and that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def find_child(parent: int, module: str) -> int:
    """The process that a process has started to run a module."""
    [found] = [pid for pid in children_of(parent) if is_running_module(pid, module)]
    return found


def is_running_module(pid: int, module: str) -> bool:
    """Whether it was started by `python -m`, or so, with that module."""
    return module in Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def is_alive(pid: int) -> bool:
    try:
        return _state_of(Path(f"/proc/{pid}/stat")) != "Z"
    except OSError:
        return False


def stop_threads(pids: list[int], timeout_s: float = 60) -> None:
    """Stop processes with SIGSTOP, and wait until no thread of theirs runs any more.

    A thread that is in a system call at the signal ends that call first, which may take a lock.
    """
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + timeout_s
    while not all(_is_stopped(stat) for pid in pids for stat in Path("/proc").glob(f"{pid}/task/*/stat")):
        assert time.monotonic() < deadline, "a process did not stop"
        time.sleep(0.01)


def _is_stopped(stat: Path) -> bool:
    try:
        return _state_of(stat) in {"T", "Z"}
    except OSError:  # the thread is gone
        return True


def _state_of(stat: Path) -> str:
    return stat.read_text().rpartition(")")[2].split()[0]
