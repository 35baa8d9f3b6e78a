from __future__ import annotations

import fcntl
import socket
from pathlib import Path

import pytest

from trainyard.settings import Settings
from worker.machine import devices

LISTING = """GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-aaaa-1)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-bbbb-2)
  MIG 1g.10gb     Device  0: (UUID: MIG-cccc-3)
"""
GPUS = ["GPU-aaaa-1", "GPU-bbbb-2"]


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_ask_driver", lambda: LISTING)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, GPUS),
        ("1", GPUS[1:]),
        ("1,0", GPUS[::-1]),
        (" 0 , 1 ", GPUS),
        ("GPU-bbbb-2", GPUS[1:]),
        ("GPU-b", GPUS[1:]),
        ("GPU-", []),
        ("1,7,0", GPUS[1:]),
        ("-1", []),
        ("", []),
    ],
)
def test_what_a_process_may_see(visible: str | None, expected: list[str]) -> None:
    assert devices.choose_visible(GPUS, visible) == expected


@pytest.mark.usefixtures("driver")
def test_a_slot_for_every_gpu_that_may_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices.list_devices(Settings()) == ("cuda:0", "cuda:1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert devices.list_devices(Settings()) == ("cuda:0",)
    assert devices.list_gpus() == ["GPU-bbbb-2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.list_devices(Settings()) == ("cpu",)


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_workers_that_see_a_gpu_under_other_numbers_mean_the_same_lock(tmp_path: Path) -> None:
    settings = Settings(locks_dir=tmp_path / "locks")
    all_of_them = devices.lock_paths(settings, "wrk_a", ["cuda:0", "cuda:1"], GPUS)
    second_alone = devices.lock_paths(settings, "wrk_b", ["cuda:0"], GPUS[1:])
    assert second_alone == all_of_them[1:]
    with all_of_them[1].open("w") as held, second_alone[0].open("w") as wanted:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            fcntl.flock(wanted, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_slots_of_one_worker_on_one_gpu_do_not_wait_for_each_other(tmp_path: Path) -> None:
    settings = Settings(locks_dir=tmp_path)
    paths = devices.lock_paths(settings, "wrk_a", ["cuda:0", "cuda:0"], GPUS)
    assert names(paths) == ["GPU-aaaa-1-0.lock", "GPU-aaaa-1-1.lock"]


def test_a_cpu_slot_and_a_gpu_without_an_id_have_locks_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "box")
    paths = devices.lock_paths(Settings(locks_dir=tmp_path), "wrk_a", ["cpu", "cpu", "cuda:0", "mps"], [])
    assert names(paths) == ["wrk_a-0.lock", "wrk_a-1.lock", "box-cuda-0-0.lock", "box-mps-0.lock"]
