"""Python's garbage collector in the API. It only has to find reference cycles; everything else is freed at once.

A collection stops every thread. By default one begins whenever 700 more containers were made than freed, and a full one
goes through all objects that there are: the hundreds of thousands of torch's modules, again and again, though they stay
until the process ends. That took 100 to 250 ms each time, in which neither `/healthz` nor anybody else was answered.
"""

from __future__ import annotations

import gc

EVERY = 20_000  #: containers; a request makes and frees some hundred
OLDER_EVERY = 5  #: collections. A full one, every 25th, takes milliseconds: what was imported is left out of it


def collect_rarely() -> None:
    """Collect less often from now on: a request then costs the event loop about a tenth less."""
    gc.set_threshold(EVERY, OLDER_EVERY, OLDER_EVERY)


def collect_nothing() -> None:
    """Collect nothing until `keep_what_is_there`; call it before large modules are imported, which it makes faster."""
    gc.disable()


def keep_what_is_there() -> None:
    """Leave the objects that exist now out of all further collections; call it when large modules were imported."""
    gc.collect()
    gc.freeze()
    gc.enable()
