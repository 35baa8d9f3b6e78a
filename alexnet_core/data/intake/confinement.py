"""Confines a process that reads what strangers sent: memory, CPU time, file size, and no network. Torch-free."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_LAST_SECONDS = 30  # between the signal at the limit of CPU time and the end


def confine(*, memory_bytes: int, cpu_s: int | None, file_bytes: int) -> None:
    """Limit this process and what it starts. Call it while it has only one thread.

    Beyond the memory an allocation raises MemoryError; beyond the CPU time the kernel sends SIGXCPU; a file that would
    become larger raises OSError with EFBIG.

    Args:
        memory_bytes: of private memory (Linux); files that are mapped come on top, up to `file_bytes`.
        cpu_s: seconds of CPU time from now on; None: as many as it takes.
        file_bytes: of one file.
    """
    _leave_network()
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_DATA, memory_bytes)
    _limit(resource.RLIMIT_AS, memory_bytes + file_bytes)
    _limit(resource.RLIMIT_FSIZE, file_bytes)
    if cpu_s is None:
        return
    used = round(sum(os.times()[:2]) + 0.5)
    _limit(resource.RLIMIT_CPU, used + cpu_s, hard=used + cpu_s + _LAST_SECONDS)


def _limit(kind: int, soft: int, *, hard: int | None = None) -> None:
    """Lower a limit. One that is lower already stays."""
    _, highest = resource.getrlimit(kind)
    hard = soft if hard is None else hard
    if highest != resource.RLIM_INFINITY:
        soft, hard = min(soft, highest), min(hard, highest)
    with contextlib.suppress(ValueError, OSError):  # the system does not allow it
        resource.setrlimit(kind, (soft, hard))


def _leave_network() -> None:
    """Enter a network namespace without a way out, where the system lets this user (Linux)."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
