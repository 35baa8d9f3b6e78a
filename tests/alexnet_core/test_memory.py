"""How many arenas glibc opens, seen from outside: each begins with a reservation of 64 MiB at a multiple of 64 MiB."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from PIL import Image

from alexnet_core.memory import bound_arenas
from tests.processes import children_of
from trainyard.launch.queue_server import free_port
from trainyard.settings import Settings, child_environment

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or sys.maxsize < 1 << 32, reason="reads how glibc lays memory out on 64 bits"
)

RESERVED = 64 << 20
NUM_THREADS = 16
THREADS = f"""
import os, threading, time
from alexnet_core.memory import bound_arenas
if {{bound}}:
    assert bound_arenas(os.environ)
together = threading.Barrier({NUM_THREADS + 1})
def allocate():
    block = bytearray(5000)
    together.wait()
    time.sleep(60)
for _ in range({NUM_THREADS}):
    threading.Thread(target=allocate, daemon=True).start()
together.wait()
print("all allocated", flush=True)
time.sleep(60)
"""


def count_arenas(pid: int) -> int:
    """Arenas of a process beside its first one, which has no such reservation."""
    areas = []
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, rights = line.split()[:2]
        begin, _, end = span.partition("-")
        areas.append((int(begin, 16), int(end, 16), rights))
    return sum(
        used_end == rest_begin and begin % RESERVED == 0 and rest_end == begin + RESERVED and rest_rights == "---p"
        for (begin, used_end, _), (rest_begin, rest_end, rest_rights) in pairwise(areas)
    )


def count_arenas_of_threads(*, bound: bool, environment: Mapping[str, str]) -> int:
    """Arenas of a process in which sixteen threads have allocated something and still live."""
    command = [sys.executable, "-c", THREADS.format(bound=bound)]
    with subprocess.Popen(command, env=dict(environment), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"all allocated\n"
        arenas = count_arenas(process.pid)
        process.kill()
    return arenas


def test_threads_share_two_arenas() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    assert count_arenas_of_threads(bound=False, environment=environment) >= 6  # eight a core are allowed
    assert count_arenas_of_threads(bound=True, environment=environment) == 1


def test_what_the_environment_says_is_left_as_it_is() -> None:
    assert count_arenas_of_threads(bound=True, environment=os.environ | {"MALLOC_ARENA_MAX": "4"}) == 3


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alexnet_core.memory.ctypes.CDLL", lambda name: object())  # musl has no `mallopt`
    assert bound_arenas({}) is False


def test_an_api_process_has_two_arenas(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, port=free_port())
    command = [sys.executable, "-m", "api", "--die-with-parent", str(os.getpid())]
    with (tmp_path / "api.log").open("wb") as log:
        process = subprocess.Popen(command, env=child_environment(settings), stdout=log, stderr=log)
    try:
        until = time.monotonic() + 60
        while not is_alive(settings.port):
            assert process.poll() is None, (tmp_path / "api.log").read_text()
            assert time.monotonic() < until
            time.sleep(0.1)
        engine, web = sorted(children_of(process.pid))
        assert b"GLIBC_TUNABLES=glibc.malloc.hugetlb=1" in Path(f"/proc/{engine}/environ").read_bytes().split(b"\0")
        for pid in (engine, web):
            assert len(list(Path(f"/proc/{pid}/task").iterdir())) > 4
            assert count_arenas(pid) <= 2  # the second: what is taken may be more than one reservation holds
    finally:
        process.kill()
        process.wait()


def is_alive(port: int) -> bool:
    """Whether `/healthz` answers."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False


FAULTS = """
import resource, sys
from alexnet_core.__main__ import main
assert main(["prepare", "--dataset", "few", "--target", "packs/few"]) == 0  # imports everything
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
assert main(["prepare", "--dataset", "many", "--target", "packs/many"]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, file=sys.stderr)
"""


def test_images_are_packed_without_a_page_fault_for_each_of_their_pages(tmp_path: Path) -> None:
    """An image of 500x375 has 183 pages; with glibc's own thresholds there were 70 to 440 faults for each."""
    for dataset, count in (("few", 10), ("many", 150)):
        for number in range(2 * count):
            path = tmp_path / dataset / "ab"[number % 2] / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.radial_gradient("L").resize((500, 375)).rotate(number).convert("RGB").save(path)
    done = subprocess.run([sys.executable, "-c", FAULTS], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert int(done.stderr.splitlines()[-1]) / 300 < 10
