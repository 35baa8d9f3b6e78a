"""A child process that is given a specification, reports progress and then answers: from the worker's side."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from alexnet_core.messages import PROTOCOL_ERROR, MalformedMessage, Message
from worker.children import scrubbed_environment, yield_to_others

R = TypeVar("R", bound=Message)

_LAST_WORDS_BYTES = 2000
_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}


class ChildEnded(Exception):
    """The child has ended without an answer, or was ended."""

    def __init__(self, code: str, message: str) -> None:
        self.code, self.message = code, message
        super().__init__(message)


class ReportingChild(Generic[R]):
    """A child. The thread that starts it must live as long as it does.

    Args:
        command: of `python -m alexnet_core`.
        spec: its first line.
        parse: reads a line from it.
        is_answer: whether a report is its last one.
        does: what it does, for sentences: `reads the dataset`.
        killed_code: the failure if it was killed.
        failed_code: the failure if it ended with an error of its own.
        too_long: the failure and its sentence if it took all of its CPU time; None: it may take any.
        threads: that it computes with.
    """

    def __init__(
        self,
        command: str,
        spec: Message,
        parse: Callable[[bytes], R],
        is_answer: Callable[[R], bool],
        *,
        does: str,
        killed_code: str,
        failed_code: str,
        too_long: tuple[str, str] | None = None,
        threads: int = 1,
    ) -> None:
        self._parse, self._is_answer = parse, is_answer
        self._does, self._killed_code, self._failed_code = does, killed_code, failed_code
        self._too_long = too_long
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "alexnet_core", command, "--parent-pid", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                env=scrubbed_environment(threads),
                start_new_session=True,
            )
        except BaseException:
            self._said.close()
            raise
        self._reports: queue.SimpleQueue[R | ChildEnded | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name=f"reports-{self._process.pid}", daemon=True)
        try:
            yield_to_others(self._process.pid)
            self._reader.start()
            self.give(spec)
        except BaseException:
            self.end()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def give(self, message: Message) -> None:
        """Send the child a line. One that has ended shows that by its answer."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(message.to_line())
            self._process.stdin.flush()

    def follow(self, on_report: Callable[[R], None], on_tick: Callable[[], None], *, tick_s: float, hang_s: float) -> R:
        """Return the child's answer.

        Args:
            on_report: called with each report before it.
            on_tick: called every tick.
            tick_s: seconds between two ticks.
            hang_s: seconds without a report and without CPU time after which the child counts as hung.

        Raises:
            ChildEnded: there is no answer.
        """
        due = moved_at = time.monotonic()
        used_s = 0.0
        while True:
            report = self._wait(max(0.0, due - time.monotonic()))
            if report is not None and self._is_answer(report):
                return report
            if report is not None:
                on_report(report)
                moved_at = time.monotonic()
            if time.monotonic() - moved_at > hang_s:
                before_s, used_s, moved_at = used_s, self._cpu_s(), time.monotonic()
                if used_s <= before_s:
                    text = f"The process that {self._does} did nothing for {hang_s:g} seconds and was killed."
                    raise ChildEnded(self._killed_code, text)
            if time.monotonic() >= due:
                on_tick()
                due = time.monotonic() + tick_s

    def end(self) -> None:
        """Kill the child, with all that it started, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._reader.ident is not None:
            self._reader.join()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._said.close()

    def _cpu_s(self) -> float:
        """Return the seconds of CPU time that it, and what it started and ended, has taken (Linux; elsewhere 0)."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def _wait(self, timeout_s: float) -> R | None:
        """Return the next report. None: there was none in time.

        Raises:
            ChildEnded: there will be no more.
        """
        try:
            report = self._reports.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if report is None:
            raise self._explain_end()
        if isinstance(report, ChildEnded):
            raise report
        return report

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                if not line.endswith(b"\n"):  # it was killed while it wrote
                    break
                try:
                    report = self._parse(line)
                except MalformedMessage as exc:
                    text = f"The worker did not understand its child: {exc}."
                    self._reports.put(ChildEnded(PROTOCOL_ERROR, text))
                    return
                self._reports.put(report)
                if self._is_answer(report):
                    return
        self._reports.put(None)

    def _explain_end(self) -> ChildEnded:
        """Return what the end of a child means that gave no answer."""
        status = self._process.wait()
        if status == -signal.SIGXCPU and self._too_long is not None:
            return ChildEnded(*self._too_long)
        if -status in _CRASHES:
            return ChildEnded("parser_crash", f"The process that {self._does} ended by {-status}.")
        if status < 0:
            return ChildEnded(self._killed_code, f"The process that {self._does} was killed by signal {-status}.")
        self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - _LAST_WORDS_BYTES))
        last = (self._said.read().decode(errors="replace").strip().splitlines() or ["no output"])[-1]
        return ChildEnded(self._failed_code, f"The process that {self._does} ended with status {status}: {last}")
