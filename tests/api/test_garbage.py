"""The API spares its requests long collections of garbage."""

from __future__ import annotations

import subprocess
import sys

STARTS = """
import gc
from api.serving.runtime import TorchRuntime
TorchRuntime(1).start()
frozen, left = gc.get_freeze_count(), len(gc.get_objects())
assert frozen > 100_000, frozen
assert left < frozen / 10, (left, frozen)
"""


def test_no_collection_goes_through_torch_s_modules_again() -> None:
    subprocess.run([sys.executable, "-c", STARTS], check=True)


def test_collections_are_rare() -> None:
    code = "import gc; from api.garbage import *; collect_rarely(); assert gc.get_threshold()[0] == EVERY"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_is_collected_while_modules_are_imported() -> None:
    code = (
        "import gc; from api.garbage import *; collect_nothing(); assert not gc.isenabled(); keep_what_is_there(); "
        "assert gc.isenabled() and gc.get_freeze_count() > 1000"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
