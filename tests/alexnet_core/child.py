"""The real trainer child, over pipes, as its worker has it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from alexnet_core.data.pack import Pack
from tests.alexnet_core.toy import CONFIG

PARENT_IS_GONE = 3


class Child:
    """A trainer that is ready for a spec, unless it is told otherwise."""

    def __init__(self) -> None:
        receive, send = os.pipe()
        command = [sys.executable, "-m", "alexnet_core", "trainer", "--report-fd", str(send)]
        self.process = subprocess.Popen(
            [*command, "--parent-pid", str(os.getpid())], stdin=subprocess.PIPE, pass_fds=(send,)
        )
        os.close(send)
        self.reports = os.fdopen(receive)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.close()

    def send(self, **command: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.process.stdin.flush()

    def read(self) -> dict[str, Any] | None:
        line = self.reports.readline()
        return json.loads(line) if line else None

    def read_attempt(self) -> Iterator[dict[str, Any]]:
        """The reports up to the trainer's last word on its attempt, or to its end; without mere heartbeats."""
        while (report := self.read()) is not None:
            if report["type"] != "alive":
                yield report
            if report["type"] in {"finished", "failed"}:
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


def describe_attempt(pack: Pack, root: Path, *, epochs: int = 5, **more: Any) -> dict[str, Any]:
    """A command that starts an attempt."""
    config = json.loads(CONFIG.with_overrides({"epochs": epochs}).model_dump_json())
    return {
        "type": "spec", "job_id": "job_1", "lease_epoch": 1, "seed": 5, "config": config, "pack_dir": str(pack.path),
        "pack_digest": pack.digest, "checkpoint_root": str(root), "resume_from": None, "best_checkpoint": None,
        "init_from": None, "device": "cpu", "num_threads": 1, "recovery_every_s": 60, "tensorboard_dir": None,
        "log_path": str(root / "log" / "trainer.log"), "lock_path": str(root / "slot.lock"), "failpoints": {},
    } | more  # fmt: skip
