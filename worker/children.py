"""What all computing children of a worker have in common: their environment, and a low priority."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from alexnet_core.child_processes import PASSED_ON
from alexnet_core.memory import HUGE_PAGES

NICENESS = 5  # training gives way to predictions on the same cores
OOM_SCORE = 500  # when memory runs out the kernel takes the child, not its worker
#: For its next piece of work, a thread spins a quarter of a millisecond before it sleeps (libgomp; others sleep at
#: once). Without, steps of small batches take a fifth longer; for longer, it would burn what predictions could use.
_WAIT_POLICY, _SPIN_COUNT = "PASSIVE", "10000"
_PASSED_ON = (*PASSED_ON, "XDG_CACHE_HOME", "GLIBC_TUNABLES")
_PASSED_ON_PREFIXES = ("CUDA_", "NVIDIA_", "OMP_", "GOMP_", "KMP_", "OPENBLAS_", "MKL_", "ONEDNN_", "DNNL_", "NCCL_")
_GROUP_RETRY_S = 0.15  # from users other than root the kernel accepts one such write in a tenth of a second


def scrubbed_environment(threads: int) -> dict[str, str]:
    """Return the environment of a child that computes, without addresses, keys or passwords of services.

    The operator's settings for OpenMP, BLAS, CUDA and glibc are passed on. Only the number of threads, and that idle
    threads sleep, are always set here.
    """
    kept = {k: v for k, v in os.environ.items() if k in _PASSED_ON or k.startswith(_PASSED_ON_PREFIXES)}
    ours = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": _WAIT_POLICY, "PYTHONUNBUFFERED": "1"}
    return {"GOMP_SPINCOUNT": _SPIN_COUNT} | HUGE_PAGES | kept | ours


def yield_to_others(pid: int, *, proc: Path = Path("/proc")) -> None:
    """Give a child, in a session of its own, the lowest priority for cores and memory.

    A kernel with autogroups first shares the cores among sessions, and niceness counts only within a session. So the
    session gets the low priority, too.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, max(NICENESS, os.getpriority(os.PRIO_PROCESS, pid)))
    with contextlib.suppress(OSError):
        (proc / str(pid) / "oom_score_adj").write_text(str(OOM_SCORE))
    group = proc / str(pid) / "autogroup"
    for _ in range(3):
        try:
            if group.exists():
                group.write_text(str(NICENESS))
            return
        except BlockingIOError:
            time.sleep(_GROUP_RETRY_S)
        except OSError:
            return
