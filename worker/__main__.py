"""`python -m worker`: runs a worker until SIGTERM drains it: running jobs write a checkpoint and are given back.

With `--healthcheck` it only checks whether a worker of this machine is well (exit status 0) or not (1). That is done
often, so it comes before everything that takes long to import.
"""

from __future__ import annotations

import sys

from worker.machine.health import is_any_healthy

if __name__ == "__main__":
    if sys.argv[1:] == ["--healthcheck"]:
        sys.exit(0 if is_any_healthy() else 1)
    from worker.process import app

    app(prog_name="python -m worker")
