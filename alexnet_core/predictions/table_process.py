"""A child process that turns rows of results into a table, so that the API answers others meanwhile. Torch-free.

`python -m alexnet_core.predictions.table_process csv TOP_K PARENT_PID` is the child: it reads NDJSON from its standard
input and writes the table to its standard output.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress

from alexnet_core.child_processes import die_with_parent, scrubbed_environment
from alexnet_core.predictions.result_tables import write_csv, write_parquet

CSV, PARQUET = "csv", "parquet"
_NICENESS = 5  # a download gives way to predictions on the same cores
_PIECE_BYTES = 256 * 1024


class TableFailed(Exception):
    """The child ended without a whole table."""


class TableProcess:
    """Makes one table.

    The kernel kills the child when the thread that started it ends (`die_with_parent`). So it is started by a thread of
    its own, which waits for its end: whoever builds and reads the table may do so in any threads, and these may end.

    Args:
        kind: `csv` or `parquet`.
        top_k: classes that the rows have at most.
        rows: the NDJSON, in pieces; read in a thread of its own.
    """

    def __init__(self, kind: str, top_k: int, rows: Iterable[bytes]) -> None:
        self._rows = rows
        self._trouble: BaseException | None = None
        started: Future[subprocess.Popen[bytes]] = Future()
        self._feeder = threading.Thread(target=self._run, args=(kind, top_k, started), name="table-feeder", daemon=True)
        self._feeder.start()
        self._process = started.result()

    def pieces(self) -> Iterator[bytes]:
        """Yield the table's bytes.

        Raises:
            TableFailed: the child ended, or the rows can't be read: what came is not the whole table.
        """
        assert self._process.stdout is not None
        while piece := self._process.stdout.read(_PIECE_BYTES):
            yield piece
        self._feeder.join()
        status = self._process.wait()
        if status != 0 or self._trouble is not None:
            raise TableFailed(f"the table is not whole: status {status}") from self._trouble

    def close(self) -> None:
        """End the child; harmless a second time."""
        self._process.kill()
        self._feeder.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _run(self, kind: str, top_k: int, started: Future[subprocess.Popen[bytes]]) -> None:
        try:
            process = _start(kind, top_k)
        except BaseException as exc:
            started.set_exception(exc)
            return
        started.set_result(process)
        self._feed(process)
        process.wait()

    def _feed(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        try:
            for piece in self._rows:
                view = memoryview(piece)
                while view:
                    view = view[process.stdin.write(view) :]
            process.stdin.close()
        except BrokenPipeError:
            pass  # the child's status tells
        except BaseException as exc:
            self._trouble = exc
            process.kill()  # else it would take what it has for all


def _start(kind: str, top_k: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", __name__, kind, str(top_k), str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=scrubbed_environment(),
        bufsize=0,
        start_new_session=True,
    )


def main(kind: str, top_k: int, parent_pid: int) -> None:
    """Run the child."""
    die_with_parent(parent_pid)
    os.nice(_NICENESS)
    if kind == CSV:
        write_csv(sys.stdin.buffer, sys.stdout.buffer, top_k=top_k)
    else:
        write_parquet(sys.stdin.buffer, sys.stdout.buffer, top_k=top_k)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
