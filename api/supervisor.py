"""The API's parent process: opens the port, starts the engine and the web processes, and starts again what ends.

SIGTERM and SIGINT are handed on to the web processes, which answer what they have begun; then the engine ends. The
engine listens to no signal: it ends when its standard input is closed. If this process is killed, the kernel kills the
others.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from types import FrameType

from alexnet_core.memory import HUGE_PAGES
from api.bootstrap import refuse
from api.observability.process_files import MetricsFolder
from trainyard import logs
from trainyard.launch.children import POLL_S, Child, Ended
from trainyard.settings import Settings

log = logging.getLogger(__name__)

BIND_S = 5.0  # the processes of an API that was just killed may hold the port for a moment
BACKLOG = 2048
WEB_GRACE_S = 30.0  # more than a web process takes to end: `web_process.GRACEFUL_S`
ENGINE_GRACE_S = 10.0


class Supervisor:
    """Runs one API; `run` returns when it has ended."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._signals: list[int] = []
        self._held = ExitStack()

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT.

        Returns:
            0; or 2 if the port can't be opened; or the status of a process that can't start.
        """
        logs.configure(self._settings.log_level)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note_signal)
        with self._held:
            try:
                listener = self._held.enter_context(open_port(self._settings.host, self._settings.port))
            except OSError as exc:
                refuse(f"port {self._settings.port} of {self._settings.host} can't be opened: {exc.strerror or exc}")
                return 2
            status = self._supervise(listener)
        if self._signals:  # end as whoever sent it expects
            signal.signal(self._signals[0], signal.SIG_DFL)
            os.kill(os.getpid(), self._signals[0])
        return status

    def _supervise(self, listener: socket.socket) -> int:
        metrics = MetricsFolder()
        self._held.callback(metrics.close)
        environment = os.environ | metrics.environment
        place = metrics.path / "engine.sock"  # private, short, and swept by the next one if this process is killed
        engine = Child("engine", lambda: _start("api.engine_process", HUGE_PAGES | environment, [str(place)]))
        web = [
            Child(
                f"web-{number}",
                lambda: _start("api.web_process", environment, [str(place), str(listener.fileno())], [listener]),
            )
            for number in range(self._settings.num_web_processes)
        ]
        children = [engine, *web]
        for child in children:
            child.run()
        status, proven = 0, set[str]()
        while not self._signals and not status:
            for child in children:
                if (ended := _revive(child)) is None:
                    continue
                _fold_counts(metrics, ended.pid)
                if ended.was_steady:
                    proven.add(child.name)
                if ended.status > 0 and child.name not in proven:
                    status = ended.status  # it said why on standard error
                    break
                log.error(
                    "%s ended with status %d: starting it again in %.1f s", child.name, ended.status, ended.wait_s
                )
            time.sleep(POLL_S)
        listener.close()
        self._stop(engine, web)
        return status

    def _stop(self, engine: Child, web: list[Child]) -> None:
        told = 0
        deadline = time.monotonic() + WEB_GRACE_S
        while any(child.is_alive() for child in web) and time.monotonic() < deadline:
            signals = self._signals or [signal.SIGTERM]
            for number in signals[told:]:
                for child in web:
                    if child.process is not None and child.is_alive():
                        child.process.send_signal(number)
            told = len(signals)
            time.sleep(POLL_S)
        for child in web:
            child.stop(0, lambda: True)
        if engine.process is not None and engine.process.stdin is not None:
            engine.process.stdin.close()
            deadline = time.monotonic() + ENGINE_GRACE_S
            while engine.is_alive() and time.monotonic() < deadline:
                time.sleep(POLL_S)
        engine.stop(0, lambda: True)

    def _note_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signals.append(number)


def _revive(child: Child) -> Ended | None:
    """Start a child again if it has ended. If the system has no room for a process now, the next round tries again."""
    try:
        return child.revive()
    except OSError as exc:
        log.error("%s can't be started now: %s", child.name, exc)
        return None


def _fold_counts(metrics: MetricsFolder, pid: int) -> None:
    try:
        metrics.process_ended(pid)
    except Exception:
        log.exception("the counts of an ended process are lost")


def open_port(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        OSError: the address is not there, or something else has listened on it for some seconds.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    deadline = time.monotonic() + BIND_S
    while True:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_S)
            continue
        listener.setblocking(False)
        return listener


def _start(
    module: str, environment: dict[str, str], arguments: list[str], sockets: list[socket.socket] | None = None
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", module, str(os.getpid()), *arguments],
        stdin=subprocess.PIPE,
        env=environment,
        pass_fds=[one.fileno() for one in sockets or []],
        start_new_session=True,  # a terminal's Ctrl-C reaches this process only, which hands it on once
    )
