"""A complete yard on one machine: queue server, worker and API as supervised children of this process.

A child that dies is started again, with growing waits if it dies at once. SIGINT or SIGTERM drains the worker (jobs
finish a step and write a checkpoint), then ends the rest; a second signal kills at once. If this process is killed, the
kernel kills the children.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Self

from pydantic import SecretStr
from sqlalchemy import select

from trainyard.database.connection import Database
from trainyard.database.schema import migrate
from trainyard.database.tables import Job
from trainyard.errors import ServiceError
from trainyard.launch.children import POLL_S, Child
from trainyard.launch.queue_server import QueueServer, free_port
from trainyard.parent_option import OPTION
from trainyard.scheduling.workers import count_live
from trainyard.settings import LOOPBACK_HOSTS, Settings, child_environment
from trainyard.states import JobState, WorkKind
from trainyard.terminal.command_name import own_name

READY_S = 60.0
CHILD_GRACE_S = 10.0
TITLES = {"queue": "the queue server", "api": "the API", "worker": "a worker"}
API_GRACE_S = 45.0  # more than it gives its own processes


class YardError(Exception):
    """The yard can't be started; the message says why."""


def _say(line: str) -> None:
    print(line, flush=True)  # also where the output is no terminal


@dataclass
class Yard:
    """A yard as a context manager: inside the block it is running and ready."""

    settings: Settings
    say: Callable[[str], None] = _say
    children: list[Child] = field(default_factory=list)
    _signals: int = 0
    _lock: IO[str] | None = None
    _database: Database | None = None

    def __enter__(self) -> Self:
        self._prepare_folder()
        if self.settings.port == 0:
            self.settings = self.settings.model_copy(update={"port": free_port()})
        self._database = Database(self.settings.sqlalchemy_url)
        migrate(self._database)
        try:
            self._start_children()
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The URL of the API."""
        host = self.settings.host if self.settings.host not in {"0.0.0.0", "::"} else "127.0.0.1"
        return f"http://{f'[{host}]' if ':' in host else host}:{self.settings.port}"

    def run(self) -> None:
        """Supervise until a signal comes."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._count_signal)
        while not self._signals:
            self.tick()
            time.sleep(POLL_S)

    def tick(self) -> None:
        """Start the processes that have died, with increasing waits."""
        for child in self.children:
            if (ended := child.revive()) is not None:
                self.say(f"{child.name} ended with status {ended.status}: starting it again in {ended.wait_s:.1f} s")

    def stop(self) -> None:
        """Stop every child: the worker drains first, the queue stops last."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._count_signal)
        last = 2 if self._signals else 1  # two may have come before we got here
        running = self._count_running()
        if running:
            self.say(f"stopping: {running} running job(s) write a checkpoint first (Ctrl-C again: kill at once)")
        grace_s = CHILD_GRACE_S + (2 * self.settings.stop_grace_s if running else 0)
        for child in reversed(self.children):
            own_s = {"worker": grace_s, "api": API_GRACE_S}.get(child.name, CHILD_GRACE_S)
            child.stop(own_s, lambda: self._signals >= last)
        if self._database is not None:
            self._database.close()
        if self._lock is not None:
            self._lock.close()

    # --- start ---

    def _prepare_folder(self) -> None:
        folder = self.settings.data_dir
        try:
            (folder / "logs").mkdir(parents=True, exist_ok=True)
            self._lock = (folder / ".lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise YardError(
                f"another yard is running on {folder.absolute()}: stop it, or name another --data-dir"
            ) from exc
        except OSError as exc:
            raise YardError(f"the data folder {folder.absolute()} can't be used: {exc}") from exc

    def _start_children(self) -> None:
        if self.settings.redis_url is None:
            queue = QueueServer(self.settings.data_dir)
            self.settings = self.settings.model_copy(update={"redis_url": SecretStr(queue.url)})
            self._add(Child("queue", queue.start))
            try:
                queue.wait_until_it_answers()
            except RuntimeError as exc:
                raise YardError(str(exc)) from exc
        self._add(Child("api", lambda: self._start_module("api")))
        self._add(Child("worker", lambda: self._start_module("worker")))

    def _add(self, child: Child) -> None:
        self.say(f"starting {TITLES[child.name]}")
        self.children.append(child)
        child.run()

    def _start_module(self, name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", name, OPTION, str(os.getpid())]
        with (self.settings.data_dir / "logs" / f"{name}.log").open("ab") as log_file:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                env=child_environment(self.settings),
                start_new_session=True,
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        waits_for = {"api": self._api_answers, "worker": self._worker_is_registered}
        while waits_for:
            for child in self.children:
                if not child.is_alive():
                    raise YardError(f"{child.name} does not start: {self._last_words(child.name)}")
            waits_for = {name: is_ready for name, is_ready in waits_for.items() if not is_ready()}
            if waits_for and time.monotonic() > deadline:
                raise YardError(f"not ready within {READY_S:.0f} s: {' and '.join(waits_for)}; see the logs")
            time.sleep(POLL_S)

    def _api_answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _worker_is_registered(self) -> bool:
        assert self._database is not None
        with self._database.reading() as session:
            return count_live(session, pid=self._pid_of("worker")) > 0

    def _pid_of(self, name: str) -> int:
        process = next(child.process for child in self.children if child.name == name)
        assert process is not None
        return process.pid

    def _last_words(self, name: str) -> str:
        path: Path = self.settings.data_dir / "logs" / f"{name}.log"
        lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
        return f"{lines[-1][:500] if lines else 'it said nothing'} (whole log: {path})"

    def _count_running(self) -> int:
        with contextlib.suppress(ServiceError):
            if self._database is not None:
                with self._database.reading() as session:
                    trains = select(Job.id).where(Job.state == JobState.RUNNING, Job.kind == WorkKind.TRAIN)
                    return len(session.scalars(trains).all())
        return 0

    def _count_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1


def describe(yard: Yard) -> str:
    """Return the lines to print when the yard is ready."""
    is_open = yard.settings.admin_key is None
    lines = [f"Trainyard is ready: {yard.url}   (API docs: {yard.url}/docs)"]
    if is_open and yard.settings.host in LOOPBACK_HOSTS:
        lines.append("Anyone on this machine may use it; set TRAINYARD_ADMIN_KEY to ask for a key.")
    lines.append(f"Data and logs: {yard.settings.data_dir.absolute()}")
    lines.append(f"In another terminal: {own_name()} train FOLDER --watch   Here: Ctrl-C stops the yard.")
    return "\n".join(lines)
