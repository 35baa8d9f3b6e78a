"""The child that takes in a dataset, from the worker's side: it is given a spec, reports progress and then answers."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from alexnet_core.data.intake.child_messages import (
    DATASET_TOO_COSTLY,
    IntakeDone,
    IntakeFailed,
    IntakeProgress,
    IntakeReport,
    IntakeSpec,
    parse_intake_report,
)
from alexnet_core.messages import PROTOCOL_ERROR, MalformedMessage
from worker.children import scrubbed_environment, yield_to_others

log = logging.getLogger(__name__)

_LAST_WORDS_BYTES = 2000
_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}


class IntakeChild:
    """A child process that makes one pack. The thread that starts it must live as long as it does."""

    def __init__(self, spec: IntakeSpec, *, threads: int) -> None:
        self._spec = spec
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        command = [sys.executable, "-m", "alexnet_core", "intake", "--parent-pid", str(os.getpid())]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                env=scrubbed_environment(threads),
                start_new_session=True,
            )
        except BaseException:
            self._said.close()
            raise
        self._reports: queue.SimpleQueue[IntakeReport | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name=f"intake-reports-{self._process.pid}", daemon=True)
        try:
            yield_to_others(self._process.pid)
            self._reader.start()
            self._give(spec)
        except BaseException:
            self.end()
            raise

    def _give(self, spec: IntakeSpec) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError), self._process.stdin as pipe:  # its end shows in its answer
            pipe.write(spec.to_line())

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def cpu_s(self) -> float:
        """Return the seconds of CPU time that it, and what it started and ended, has taken (Linux; elsewhere 0)."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def wait(self, timeout_s: float) -> IntakeReport | None:
        """Return the next report. None: there was none in time. The last one is not progress, and always comes."""
        try:
            report = self._reports.get(timeout=timeout_s)
        except queue.Empty:
            return None
        return self._explain_end() if report is None else report

    def end(self) -> None:
        """Kill the child, with all that it started, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._reader.ident is not None:
            self._reader.join()
        self._said.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                if not line.endswith(b"\n"):  # it was killed while it wrote
                    break
                try:
                    report = parse_intake_report(line)
                except MalformedMessage as exc:
                    text = f"The worker did not understand its child: {exc}."
                    report = IntakeFailed(code=PROTOCOL_ERROR, message=text)
                self._reports.put(report)
                if not isinstance(report, IntakeProgress):
                    return
        self._reports.put(None)

    def _explain_end(self) -> IntakeDone | IntakeFailed:
        """Return the answer of a child that ended without one."""
        status = self._process.wait()
        if status == -signal.SIGXCPU:
            text = f"To read the dataset takes more than the {self._spec.cpu_s} seconds of CPU time that are allowed."
            return IntakeFailed(code=DATASET_TOO_COSTLY, message=text)
        if -status in _CRASHES:
            return IntakeFailed(code="parser_crash", message=f"The process that reads the dataset ended by {-status}.")
        if status < 0:
            text = f"The process that reads the dataset was killed by signal {-status}."
            return IntakeFailed(code="validation_killed", message=text)
        self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - _LAST_WORDS_BYTES))
        last = (self._said.read().decode(errors="replace").strip().splitlines() or ["no output"])[-1]
        return IntakeFailed(code="preparation_failed", message=f"The intake ended with status {status}: {last}")
