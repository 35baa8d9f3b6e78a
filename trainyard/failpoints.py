"""For tests only: every place at which a process of the yard can be made to fail on purpose.

`TRAINYARD_FAILPOINTS="after_claim=kill9,step_50=sleep:9999"`, refused without `TRAINYARD_TESTING=1`. The actions are
`exit`, `kill9`, `abort`, `sleep:SECONDS`, `enospc` and `raise`; `once:kill9` happens once in the life of a data folder.
"""

from __future__ import annotations

import errno
import os
import re
import resource
import signal
import time
from pathlib import Path

from trainyard.settings import Settings

API, WORKER, TRAINER = "api", "worker", "trainer"
NAMES: dict[str, str] = {  # and the process in which each is
    "before_commit": API,  # `POST /jobs`: the job is written, not committed
    "after_commit": API,  # `POST /jobs`: committed, not answered
    "relay_after_reading": API,  # the relay has read the outbox, and not rung
    "relay_after_ring": API,  # it has rung, and the words are still in the outbox
    "after_claim": WORKER,  # a job is claimed, nothing else was done
    "before_checkpoint_commit": WORKER,  # a checkpoint's folder is in place, the books don't know it
    "after_checkpoint_commit": WORKER,  # they know it, and nothing else was done
    "before_final_write": WORKER,  # the trainer has ended, the job's end is not written
    "before_checkpoint_rename": TRAINER,  # a checkpoint is whole under its temporary name
    "after_checkpoint_rename": TRAINER,  # it is in place, the worker was not told
    "checkpoint_byte_N": TRAINER,  # so many bytes of a checkpoint are on disk
    "step_N": TRAINER,  # so many steps are done
}

_actions: dict[str, str] = {}  # of this process; empty but in tests
_marks = Path()


def arm(settings: Settings) -> None:
    """Have this process fail where the settings say.

    Raises:
        ValueError: there is no such place.
    """
    global _marks
    for name in settings.failpoint_values:
        if re.sub(r"_[0-9]+$", "_N", name) not in NAMES:
            raise ValueError(f"there is no failpoint {name!r}: {', '.join(NAMES)}")
    _actions.clear()
    _actions.update(settings.failpoint_values)
    _marks = settings.data_dir.absolute() / "failpoints"
    if _actions:
        _marks.mkdir(parents=True, exist_ok=True)


def for_trainer() -> dict[str, str]:
    """What a trainer is handed."""
    return _actions | {"marks": str(_marks)} if _actions else {}


def hit(name: str) -> None:
    """Fail here, if that is wanted here."""
    if not _actions:
        return
    action = _actions.get(name)
    if action is None or (action.startswith("once:") and not _is_first(name)):
        return
    _act(action.removeprefix("once:"))


def _is_first(name: str) -> bool:
    try:
        os.close(os.open(_marks / name, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def _act(action: str) -> None:
    """As in `alexnet_core.failpoints`, which may not be imported here."""
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
    elif kind == "sleep":
        time.sleep(float(argument))
    else:
        raise ValueError(f"no such action: {action!r}")
