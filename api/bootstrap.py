"""What each process of the API does first: read the settings, bound its memory, begin its log."""

from __future__ import annotations

import os
import sys

from pydantic import ValidationError

from alexnet_core.failpoints import Failpoints
from alexnet_core.memory import bound_arenas
from api.garbage import collect_rarely
from trainyard import failpoints, logs, tracing
from trainyard.private_files import keep_private
from trainyard.settings import Settings
from trainyard.settings.refused_settings import explain


def read_settings() -> Settings | None:
    """Return the settings, and make the folder for data. None: one of them is wrong, and standard error says why."""
    try:
        settings = Settings()
        settings.check_exposure()
        tracing.check(settings)
        keep_private(settings.data_dir)
    except ValidationError as exc:
        refuse(explain(exc))
    except ValueError as exc:
        refuse(str(exc))
    else:
        return settings
    return None


def refuse(reason: str) -> None:
    """Say on standard error why the API does not start."""
    sys.stderr.write(f"trainyard api: {' '.join(reason.split())}\n")


def prepare_process(settings: Settings) -> None:
    """Set up this process; call it before threads are started."""
    bound_arenas(os.environ)
    collect_rarely()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # idle inference threads must not burn the trainer's cores
    logs.configure(settings.log_level)
    failpoints.arm(settings, Failpoints)
