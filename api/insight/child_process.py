"""The parent's side of the child process that computes insight (`alexnet_core.insight.child`)."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

from alexnet_core.child_processes import TimeLimit, scrubbed_environment
from alexnet_core.insight.protocol import Answer, ProtocolError, Request, read_answer, write_message

log = logging.getLogger(__name__)

_ASLEEP = {"OMP_WAIT_POLICY": "passive"}  # its threads wait without using the cores, which are the predictions'


class ChildEnded(Exception):
    """The child ended before it answered; it was too slow, or broke its limits. The next request gets a new one."""

    def __init__(self, *, too_slow: bool) -> None:
        super().__init__("the child process was too slow" if too_slow else "the child process ended")
        self.too_slow = too_slow


class InsightProcess:
    """Answers one request at a time in a child process, which is started when it is needed.

    To be used by one thread, which must live as long as the child: the kernel ends a child with the thread that
    started it.
    """

    def __init__(self, *, memory_bytes: int, max_pixels: int, threads: int) -> None:
        self._numbers = (memory_bytes, max_pixels, threads)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id. None: there is no child at present."""
        return None if self._process is None else self._process.pid

    def ask(self, request: Request, blob: bytes = b"", *, limit_s: float) -> tuple[Answer, bytes]:
        """Return the answer and its blob.

        Args:
            request: for the child.
            blob: an image.
            limit_s: seconds after which the child is killed.

        Raises:
            ChildEnded: see there.
            OSError: no process can be started.
        """
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        limit = TimeLimit(process, limit_s)
        try:
            write_message(process.stdin, request, blob)
            return read_answer(process.stdout)
        except (OSError, EOFError, ProtocolError) as exc:
            self.close()
            log.warning("the process that computes insight ended with %s (%r)", process.returncode, exc)
            raise ChildEnded(too_slow=limit.is_over) from exc
        finally:
            limit.cancel()

    def interrupt(self) -> None:
        """Kill the child, from any thread: a request that it is at ends with `ChildEnded`."""
        if (process := self._process) is not None:
            process.kill()

    def close(self) -> None:
        """End the child."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def _start(self) -> subprocess.Popen[bytes]:
        numbers = [str(number) for number in (os.getpid(), *self._numbers)]
        return subprocess.Popen(
            [sys.executable, "-m", "alexnet_core.insight.child", *numbers],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,  # its standard error is the API's log
            env=scrubbed_environment() | _ASLEEP,
            bufsize=0,
            start_new_session=True,  # a Ctrl-C is for the parent
        )
