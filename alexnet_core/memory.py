"""How this process's `malloc` keeps freed memory. glibc on Linux; anywhere else nothing is changed.

By default glibc opens an arena (a heap of its own) for each thread that finds the others in use, up to eight for each
core, and memory freed in one arena is of no use to a thread of another. The API has some fifty threads. Two arenas hold
all they need, and Python's own lock lets hardly more than two allocate at once.

By default glibc also moves its two thresholds with what a program frees. Until large blocks have been freed, each of a
batch's intermediate results goes back to the system and is mapped again for the next batch, a page fault every 4 kB.
So does each image while a dataset is packed: without these thresholds a fifth of the CPU time goes there.

Source: mallopt(3), "Malloc Tunable Parameters" and "Memory Allocation Tunables" in glibc's manual; the numbers are
<malloc.h>'s.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

#: The environment that a process which computes is started with: its large blocks then lie in pages of 2 MB, if the
#: system gives them to whoever asks. Each is one page fault in place of 512. A process can't ask for it later.
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}

_MIB = 1 << 20
_PARAMETERS = (
    ("MALLOC_ARENA_MAX", -8, 2),
    ("MALLOC_MMAP_THRESHOLD_", -3, 32 * _MIB),  # larger blocks are mapped apart; this is the highest value there is
    ("MALLOC_TRIM_THRESHOLD_", -1, 32 * _MIB),  # more than that at an arena's end goes back to the system
)


def bound_arenas(environment: Mapping[str, str]) -> bool:
    """Keep two arenas and fixed thresholds from now on; call it before threads are started.

    Args:
        environment: this process's; what its `MALLOC_` variables set is left as it is.

    Returns:
        Whether this C library has such parameters and took them.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
    taken = [mallopt(number, value) == 1 for name, number, value in _PARAMETERS if name not in environment]
    return all(taken)
