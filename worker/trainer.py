"""The trainer from the worker's side: a child process that takes commands and sends reports (`messages`)."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

from alexnet_core.messages import (
    PROTOCOL_ERROR,
    AnyReport,
    Command,
    Failed,
    Heartbeat,
    MalformedMessage,
    Ready,
    parse_report,
)
from worker.children import scrubbed_environment, yield_to_others

log = logging.getLogger(__name__)

HEARTBEAT_EVERY_S = 1.0


class TrainerProcess:
    """A trainer child in its own process group. Start it from a thread that lives as long as the trainer may."""

    def __init__(self, threads: int) -> None:
        receive, send = os.pipe()
        command = [sys.executable, "-m", "alexnet_core", "trainer", "--report-fd", str(send)]
        try:
            self._process = subprocess.Popen(
                [*command, "--parent-pid", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=(send,),
                env=scrubbed_environment(threads),
                start_new_session=True,
            )
        except BaseException:
            os.close(receive)
            raise
        finally:
            os.close(send)
        self._reports: queue.Queue[AnyReport | None] = queue.Queue()
        self._ended = False
        self.is_ready = False  #: it has torch loaded and waits for a spec, or was given one
        self._sending = threading.Lock()
        self._is_gone = threading.Event()
        reader = threading.Thread(target=self._read, args=(receive,), name=f"trainer-{self.pid}", daemon=True)
        try:
            yield_to_others(self.pid)
            reader.start()
            threading.Thread(target=self._show_life, name=f"heartbeats-to-{self.pid}", daemon=True).start()
        except BaseException:  # the system has no thread left
            self.kill()
            self.wait()
            if reader.ident is None:  # else it closes its end itself
                os.close(receive)
            raise

    @property
    def pid(self) -> int:
        """Its process id, which is also its group's."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it is running."""
        return self._process.poll() is None

    def send(self, command: Command) -> None:
        """Send a command. If the trainer is gone, this shows in the end of its reports, not here."""
        assert self._process.stdin is not None
        with self._sending, contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(command.to_line())
            self._process.stdin.flush()

    def receive(self, timeout_s: float) -> AnyReport | None:
        """Return the next report. None: there was none in time, or there will be none (`has_ended`).

        A line that is not a report is returned as `Failed`: a worker that does not understand its trainer can't be
        responsible for it.
        """
        if self._ended:
            return None
        try:
            report = self._reports.get(timeout=max(0.0, timeout_s))
        except queue.Empty:
            return None
        if report is None:
            self._ended = True
        return report

    @property
    def has_ended(self) -> bool:
        """Whether its last report has been received and no more can come."""
        return self._ended

    def terminate(self) -> None:
        """Ask the process to stop (SIGTERM)."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Kill the whole process group at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Wait for its end, which must be near: it was killed, or its reports have ended.

        Returns:
            The exit status; negative: the signal that killed it.
        """
        try:
            return self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.wait()
        finally:
            if self._process.stdin is not None:
                with contextlib.suppress(OSError):
                    self._process.stdin.close()

    def _show_life(self) -> None:
        """Send heartbeats: a trainer that receives none for a long time assumes that its worker is frozen."""
        assert self._process.stdin is not None
        room = select.poll()
        room.register(self._process.stdin, select.POLLOUT)
        while not self._is_gone.wait(HEARTBEAT_EVERY_S):
            if room.poll(0):  # a frozen trainer's pipe may be full
                self.send(Heartbeat())

    def _read(self, receive: int) -> None:
        with os.fdopen(receive, "rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):  # it was killed while it wrote
                    break
                report = self._understand(line)
                self.is_ready = self.is_ready or isinstance(report, Ready)
                self._reports.put(report)
        self._reports.put(None)
        self._is_gone.set()

    def _understand(self, line: bytes) -> AnyReport:
        try:
            return parse_report(line)
        except MalformedMessage as exc:
            log.warning("a trainer sent something that is not a report", extra={"pid": self.pid, "detail": str(exc)})
            return Failed(code=PROTOCOL_ERROR, message=f"The worker did not understand a report of its trainer: {exc}.")


class WarmTrainers(threading.Thread):
    """Keeps one trainer ready with torch imported, so that a job's first step need not wait for the import.

    It is a new one, or one whose attempt was stopped while the new one was not ready.

    All trainers are started by this one thread, which lives as long as the worker, because the kernel kills a child
    when the *thread* that started it ends.
    """

    def __init__(self, threads: int, *, keeps_spare: bool = True) -> None:
        """Make it; it is started as any thread.

        Args:
            threads: of each trainer.
            keeps_spare: False: each trainer is started when it is needed, and none waits for a job.
        """
        super().__init__(name="warm-trainers", daemon=True)
        self._threads, self._keeps_spare = threads, keeps_spare
        self._changed = threading.Condition()
        self._spare: TrainerProcess | None = None
        self._wanted = False
        self._closed = False

    def want_spare(self) -> None:
        """Keep a trainer ready from now on, if any is to be kept; returns at once."""
        if not self._keeps_spare:
            return
        with self._changed:
            self._wanted = True
            self._changed.notify_all()

    def take(self, while_waiting: Callable[[], None]) -> TrainerProcess:
        """Return a trainer for an attempt: the spare, or a new one that reads its spec once it has imported torch.

        Args:
            while_waiting: called every second while none can be started; what it raises ends the wait.

        Raises:
            RuntimeError: the worker is closing.
        """
        try:
            while (trainer := self._take_spare()) is None:
                while_waiting()
        except BaseException:
            with self._changed:
                self._wanted = self._keeps_spare  # else one would be started that nobody waits for
            raise
        return trainer

    def _take_spare(self) -> TrainerProcess | None:
        """Return the spare, after waiting for it for at most a second."""
        with self._changed:
            self._wanted = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._closed or self._has_spare(), timeout=1)
            if self._closed:
                raise RuntimeError("the worker is closing")
            spare = self._spare
            if spare is None or not spare.is_alive:
                return None
            self._spare, self._wanted = None, False
            return spare

    def _has_spare(self) -> bool:
        return self._spare is not None and self._spare.is_alive

    def take_back(self, trainer: TrainerProcess) -> bool:
        """Keep a trainer that was stopped normally as the spare if none is ready: its memory is warm already.

        Returns:
            Whether it was taken; False: its taker must end it.
        """
        with self._changed:
            if self._closed or not self._keeps_spare or not trainer.is_alive:
                return False
            if self._spare is not None and self._spare.is_alive and self._spare.is_ready:
                return False
            if self._spare is not None:
                self._spare.kill()
                self._spare.wait()
            self._spare = trainer
            self._changed.notify_all()
            return True

    def close(self) -> None:
        """End the spare and start no other."""
        with self._changed:
            self._closed = True
            if self._spare is not None:
                self._spare.kill()
            self._changed.notify_all()

    def run(self) -> None:
        """The thread's body."""
        with self._changed:
            while not self._closed:
                if self._wanted and (self._spare is None or not self._spare.is_alive):
                    self._start_spare()
                self._changed.wait(timeout=5)

    def _start_spare(self) -> None:
        if self._spare is not None:
            log.warning("the spare trainer has ended; starting another", extra={"status": self._spare.wait()})
            self._spare = None
            self._changed.wait(timeout=1)
            if self._spare is not None:  # one was taken back meanwhile
                return
        try:
            self._spare = TrainerProcess(self._threads)
        except Exception:  # whatever it is: without this thread no job of this worker would ever start
            log.exception("no trainer could be started; trying again")
            self._changed.wait(timeout=2)
        self._changed.notify_all()
