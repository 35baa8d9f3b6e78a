"""Checks a yard's processes and files from outside, ten times a second, for what must never happen."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

PERIOD_S = 0.1
ORPHAN_S = 5.0  # how long a trainer may outlive its worker


class Process(NamedTuple):
    """A process that is running, or stopped by a signal."""

    pid: int
    parent: int
    output: str  #: the file that its standard output is
    is_stopped: bool = False


def list_processes() -> list[Process]:
    """List every process that is running, without zombies."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            output = os.readlink(folder / "fd/1")
        except OSError:
            continue
        if fields[0] not in {"Z", "X"}:
            found.append(Process(int(folder.name), int(fields[1]), output, is_stopped=fields[0] == "T"))
    return found


@dataclass
class Seen:
    """A trainer: its worker, and since when something has been wrong with it."""

    worker: int
    orphan_since: float | None = None


@dataclass
class Observer:
    """Checks a yard: call `look` repeatedly, or `start` a thread that does.

    Args:
        data_dir: the yard's, or what contains those of its machines; trainers are known by the log that they write to.
        overlap_s: how long two trainers may work on one job: the one whose worker's lease was taken ends as soon as
            its worker hears of it, or has been silent for a lease. A stopped one does not work.
        alive: what processes there are.
    """

    data_dir: Path
    overlap_s: float
    alive: Callable[[], list[Process]] = list_processes
    complaints: list[str] = field(default_factory=list)
    num_looks: int = 0
    longest_overlap_s: float = 0.0
    longest_orphan_s: float = 0.0

    def __post_init__(self) -> None:
        self._trainers: dict[int, Seen] = {}
        self._overlaps: dict[str, float] = {}
        self._files: dict[str, tuple[int, int, int]] = {}
        self._told: set[str] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def longest(self) -> dict[str, float]:
        """Return the longest time that each problem lasted, in seconds."""
        return {
            "two_trainers_of_a_job_s": round(self.longest_overlap_s, 1),
            "trainer_without_its_worker_s": round(self.longest_orphan_s, 1),
        }

    def _run(self) -> None:
        while not self._ended.wait(PERIOD_S):
            self.look(time.monotonic())

    def look(self, at: float) -> None:
        """Check all processes once, and the files every tenth time."""
        processes = self.alive()
        self._look_at_orphans(at, processes)
        self._look_at_overlaps(at, processes)
        if self.num_looks % 10 == 0:
            self._look_at_files()
        self.num_looks += 1

    def _look_at_orphans(self, at: float, processes: list[Process]) -> None:
        pids = {process.pid for process in processes}
        for process in processes:
            if self._job_of(process) is None:
                continue
            seen = self._trainers.setdefault(process.pid, Seen(process.parent))
            if seen.worker in pids:
                continue
            seen.orphan_since = at if seen.orphan_since is None else seen.orphan_since
            self.longest_orphan_s = max(self.longest_orphan_s, at - seen.orphan_since)
            if at - seen.orphan_since > ORPHAN_S:
                self._complain(f"trainer {process.pid} outlives its worker {seen.worker}")
        self._trainers = {pid: seen for pid, seen in self._trainers.items() if pid in pids}

    def _look_at_overlaps(self, at: float, processes: list[Process]) -> None:
        trainers: dict[str, list[int]] = {}
        for process in processes:
            if not process.is_stopped and (job := self._job_of(process)):
                trainers.setdefault(job, []).append(process.pid)
        shared = {job: pids for job, pids in trainers.items() if len(pids) > 1}
        self._overlaps = {job: self._overlaps.get(job, at) for job in shared}
        for job, since in self._overlaps.items():
            self.longest_overlap_s = max(self.longest_overlap_s, at - since)
            if at - since > self.overlap_s:
                self._complain(f"{job} is trained by {len(shared[job])} processes at once")

    def _look_at_files(self) -> None:
        """Check that the files of a complete checkpoint never change; they may only be removed."""
        found: dict[str, tuple[int, int, int]] = {}
        for manifest in self.data_dir.glob("checkpoints/*/[!.]*/manifest.json"):
            try:
                entries = [entry for entry in os.scandir(manifest.parent) if entry.is_file()]
                found |= {entry.path: _identity(entry.stat()) for entry in entries}
            except FileNotFoundError:  # removed just now
                continue
        for path in found.keys() & self._files.keys():
            if found[path] != self._files[path]:
                self._complain(f"{Path(path).relative_to(self.data_dir)} was changed")
        self._files = found

    def _job_of(self, process: Process) -> str | None:
        path = Path(process.output)
        is_log = path.parts[-3:-1] == ("logs", "jobs") and path.is_relative_to(self.data_dir)
        return path.stem if is_log else None

    def _complain(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self.complaints.append(text)


def _identity(stat: os.stat_result) -> tuple[int, int, int]:
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
