"""Points at which a training process can be made to fail, for tests only. Torch-free.

A run's `failpoints` say what happens where: `{"step_50": "sleep:9999", "checkpoint_byte_20000": "once:kill9"}`. An
action that begins with `once:` happens only once, as long as its mark is in the folder that `marks` names.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import time
from collections.abc import Mapping
from pathlib import Path

BEFORE_RENAME = "before_checkpoint_rename"
AFTER_RENAME = "after_checkpoint_rename"
EVALUATION = "in_final_evaluation"
STEP, BYTE = "step_", "checkpoint_byte_"  # a number follows


class Failpoints:
    """The failures that are set up in this process; false if there are none."""

    def __init__(self, actions: Mapping[str, str] | None = None) -> None:
        self._actions = dict(actions or {})
        self._marks = self._actions.pop("marks", None)

    def __bool__(self) -> bool:
        return bool(self._actions)

    @property
    def byte(self) -> int | None:
        """The byte of a checkpoint after which `hit` is to be called."""
        found = [int(name.removeprefix(BYTE)) for name in self._actions if name.startswith(BYTE)]
        return found[0] if found else None

    def hit(self, name: str) -> None:
        """Fail here, if that is set up."""
        action = self._actions.get(name)
        if action is None or (action.startswith("once:") and not self._mark(name)):
            return
        act(action.removeprefix("once:"))

    def _mark(self, name: str) -> bool:
        """Whether this is the first time in any process."""
        assert self._marks is not None, "`once:` needs a folder for marks"
        try:
            os.close(os.open(Path(self._marks) / name, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True


NOWHERE = Failpoints()


def act(action: str) -> None:
    """Carry out a failure: `exit`, `kill9`, `abort`, `enospc`, `raise`, `spin`, `allocate`, or `sleep:SECONDS`."""
    kind, _, argument = action.partition(":")
    if kind == "exit":
        os._exit(86)
    elif kind == "kill9":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "abort":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.abort()
    elif kind == "enospc":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    elif kind == "raise":
        raise RuntimeError("a failpoint")
    elif kind == "spin":
        while True:
            pass
    elif kind == "allocate":
        _ = [bytearray(128 << 20) for _ in range(64)]
    elif kind == "sleep":
        time.sleep(float(argument))
    else:
        raise ValueError(f"no such action: {action!r}")
