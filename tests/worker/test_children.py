"""What a child that computes is told by its environment, and how it gives way."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.children import NICENESS, OOM_SCORE, scrubbed_environment, yield_to_others


def test_a_child_waits_briefly_and_has_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    environment = scrubbed_environment(threads=2)
    names = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    assert [environment[name] for name in names] == ["2", "PASSIVE", "10000"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GOMP_SPINCOUNT", "0"),
        ("GOMP_CPU_AFFINITY", "0-3"),
        ("OMP_PROC_BIND", "close"),
        ("CUDA_VISIBLE_DEVICES", "1"),
        ("ONEDNN_MAX_CPU_ISA", "AVX2"),
        ("XDG_CACHE_HOME", "/caches"),
        ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0"),
    ],
)
def test_what_the_operator_says_of_threads_and_devices_is_passed_on(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert scrubbed_environment(threads=2)[name] == value


FAULTS = """
import resource
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
block = bytearray(64 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(
    not HUGE.exists() or "[never]" in HUGE.read_text() or tuple(platform.libc_ver()) < ("glibc", "2.35"),
    reason="the kernel gives no pages of 2 MB, or the C library does not ask for them",
)
def test_a_childs_large_blocks_lie_in_large_pages() -> None:
    command = [sys.executable, "-c", FAULTS]
    done = subprocess.run(command, env=scrubbed_environment(threads=1), capture_output=True, text=True, check=True)
    assert int(done.stdout) < (64 << 20) / 4096 / 2


def test_a_child_gets_no_key_or_address_of_a_service(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "TRAINYARD_ADMIN_KEY": "k",
        "TRAINYARD_DATABASE_URL": "postgresql://u:p@h/d",
        "AWS_SECRET_ACCESS_KEY": "s",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    assert not secrets.keys() & scrubbed_environment(threads=1).keys()


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own that does nothing."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    yield process
    process.communicate()


def test_a_child_and_its_session_come_after_everybody_else(child: subprocess.Popen[bytes]) -> None:
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    yield_to_others(child.pid)
    assert os.getpriority(os.PRIO_PROCESS, child.pid) == max(NICENESS, ours)
    assert int(Path(f"/proc/{child.pid}/oom_score_adj").read_text()) == OOM_SCORE
    group = Path(f"/proc/{child.pid}/autogroup")
    if group.exists():
        assert group.read_text().split()[-2:] == ["nice", str(NICENESS)]


def test_a_kernel_without_autogroups_or_that_refuses_is_no_trouble(
    child: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    folder = tmp_path / str(child.pid)
    folder.mkdir()
    yield_to_others(child.pid, proc=tmp_path)
    assert [path.name for path in folder.iterdir()] == ["oom_score_adj"]
    (folder / "autogroup").mkdir()  # can't be written
    yield_to_others(child.pid, proc=tmp_path)
    yield_to_others(2**22 + 1)  # there is no such process
