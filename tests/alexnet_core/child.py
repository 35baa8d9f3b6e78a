"""The real trainer child, over pipes, as its worker has it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from alexnet_core.data.pack import Pack
from alexnet_core.messages import Alive, AnyReport, Command, Failed, Finished, Spec, parse_report
from tests.alexnet_core.toy import CONFIG


class Child:
    """A trainer that is ready for a spec, unless it is told otherwise."""

    def __init__(self) -> None:
        receive, send = os.pipe()
        command = [sys.executable, "-m", "alexnet_core", "trainer", "--report-fd", str(send)]
        self.process = subprocess.Popen(
            [*command, "--parent-pid", str(os.getpid())], stdin=subprocess.PIPE, pass_fds=(send,)
        )
        os.close(send)
        self.reports = os.fdopen(receive, "rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.close()

    def send(self, command: Command) -> None:
        self.write(command.to_line())

    def write(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def read(self) -> AnyReport | None:
        line = self.reports.readline()
        return parse_report(line) if line else None

    def read_attempt(self) -> Iterator[AnyReport]:
        """The reports up to the trainer's last word on its attempt, or to its end; without mere heartbeats."""
        while (report := self.read()) is not None:
            if not isinstance(report, Alive):
                yield report
            if isinstance(report, Finished | Failed):
                return

    def end(self) -> int:
        """Wait until it ends by itself."""
        self.process.wait(timeout=60)
        return self.close()

    def close(self) -> int:
        """As if its worker were gone."""
        assert self.process.stdin is not None
        self.reports.close()
        self.process.stdin.close()
        return self.process.wait(timeout=60)


def describe_attempt(pack: Pack, root: Path, *, epochs: int = 5, **more: Any) -> Spec:
    """A command that starts an attempt."""
    values: dict[str, Any] = {
        "job_id": "job_1", "lease_epoch": 1, "seed": 5, "config": CONFIG.with_overrides({"epochs": epochs}),
        "pack_dir": pack.path, "pack_digest": pack.digest, "checkpoint_root": root,
        "log_path": root / "log" / "trainer.log", "lock_path": root / "slot.lock",
    }  # fmt: skip
    return Spec(**values | more)
