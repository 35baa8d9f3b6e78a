import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from alexnet_core.data.decode_memory import MemoryBudget, need_bytes
from tests.hostile_images import TAKEN, Make, made

ROOT = Path(__file__).parents[3]


def test_decodes_wait_until_their_needs_fit_and_one_alone_always_may() -> None:
    budget, order = MemoryBudget(100), []
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with budget.taken(1000):
            order.append("large")
            entered.set()
            assert leave.wait(10)
            order.append("large is done")

    def wait() -> None:
        with budget.taken(1):
            order.append("small")

    first, second = threading.Thread(target=hold), threading.Thread(target=wait)
    first.start()
    assert entered.wait(10), "one that needs more than there is runs alone"
    second.start()
    time.sleep(0.05)
    assert order == ["large"]
    leave.set()
    first.join()
    second.join()
    assert order == ["large", "large is done", "small"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
@pytest.mark.parametrize("make", TAKEN, ids=lambda make: make.__name__)
def test_a_decode_takes_no_more_than_its_header_tells(make: Make, tmp_path: Path) -> None:
    """In a process of its own, whose peak is known."""
    data = made(make)
    path = tmp_path / "image"
    path.write_bytes(data)
    code = f"""
import re
from pathlib import Path
from alexnet_core.data.images import decode_image
peak = lambda: int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
data = Path({str(path)!r}).read_bytes()
before = peak()
assert decode_image(data).size
print(1024 * (peak() - before))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    with Image.open(path) as image:
        need = need_bytes(image)
    taken = int(re.findall(r"\d+", done.stdout)[-1])
    print(f"{make.__name__}: {taken / 1e6:.0f} of {need / 1e6:.0f} MB")
    assert taken <= need
