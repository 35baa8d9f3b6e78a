"""A real yard as child processes: queue server, worker and API, in a folder of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_S = 180
#: For what comes sooner or later. No test shows by it that something is quick: beside others, on two cores, nothing is.
PATIENCE_S = 400.0
#: Of each trainer. Beside other tests, threads that share one step wait for each other more than they compute. Tests of
#: a trainer's bits that should hold for several threads ask for as many as a yard takes by itself.
FEW_THREADS = {"TRAINYARD_TRAINER_THREADS": "1"}
#: Most yards here train a job or two, and a trainer that waits for another one would load torch for nothing.
NO_SPARE = {"TRAINYARD_SPARE_TRAINER": "false"}
WITH_SPARE = {"TRAINYARD_SPARE_TRAINER": "true"}
ALL_THREADS = {"TRAINYARD_TRAINER_THREADS": str(os.cpu_count() or 1)}


@dataclass
class RunningYard:
    process: subprocess.Popen[str]
    url: str
    folder: Path

    def descendants(self) -> list[int]:
        """Every process below the parent, whatever its depth, by /proc."""
        children: dict[int, list[int]] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
        found, waiting = [], [self.process.pid]
        while waiting:
            below = children.get(waiting.pop(), [])
            found += below
            waiting += below
        return found

    def press_ctrl_c(self) -> None:
        """What a terminal does: SIGINT to the whole process group in its foreground."""
        os.killpg(self.process.pid, signal.SIGINT)

    def stop(self) -> int:
        """End the yard as a terminal does, and return its exit status."""
        if self.process.poll() is None:
            self.press_ctrl_c()
        status = self.process.wait(timeout=PATIENCE_S)
        self.close()
        return status

    def close(self) -> None:
        """Close what is left here of a process that has ended."""
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def running_yard(folder: Path, **settings: str) -> Iterator[RunningYard]:
    """A real yard in a folder, with settings of its own; it ends with the block."""
    running = start_yard(folder, **settings)
    try:
        yield running
    finally:
        running.stop()


def start_yard(folder: Path, **settings: str) -> RunningYard:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("TRAINYARD_")}
    command = [sys.executable, "-m", "trainyard", "up", "--port", "0", "--data-dir", str(folder)]
    environment = inherited | FEW_THREADS | NO_SPARE | settings
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    assert process.stdout is not None
    deadline = time.monotonic() + START_S
    for line in process.stdout:
        if "is ready: " in line:
            return RunningYard(process, line.split("is ready: ")[1].split()[0], folder)
        assert time.monotonic() < deadline, "the yard did not get ready"
    raise AssertionError(f"the yard ended with status {process.wait()}")
