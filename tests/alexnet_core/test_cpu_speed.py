"""The measurement of a CPU's precisions, and what is kept of it on disk."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Callable
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
import torch

from alexnet_core import cpu_speed
from alexnet_core.cpu_speed import CpuSpeed, get_cpu_speed, measure_speeds

FAST, SLOW = {"fp32": 1.0, "bf16": 1.9}, {"fp32": 1.0, "bf16": 0.5}


class Bench:
    """A CPU that takes a set time for each part of the work, and a clock that shows it."""

    def __init__(self, seconds: dict[str, float], noise: Callable[[], float] = lambda: 0.0) -> None:
        self.now, self._seconds, self._noise = 0.0, seconds, noise
        self.calls: list[tuple[str, int]] = []

    def work(self, precision: str, parts: int) -> None:
        self.calls.append((precision, parts))
        self.now += parts * self._seconds[precision] + self._noise()

    def clock(self) -> float:
        return self.now

    def measure(self) -> dict[str, float]:
        return measure_speeds(self.work, clock=self.clock)


def never() -> dict[str, float]:
    raise AssertionError("it was measured again")


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


@pytest.mark.parametrize("bf16_s", [0.0005, 0.001, 0.003])
def test_speeds_are_multiples_of_that_of_fp32(bf16_s: float) -> None:
    assert Bench({"fp32": 0.001, "bf16": bf16_s}).measure() == pytest.approx({"fp32": 1.0, "bf16": 0.001 / bf16_s})


@pytest.mark.parametrize("seed", range(5))
def test_disturbances_do_not_count_as_long_as_one_round_was_quiet(seed: int) -> None:
    draw = random.Random(seed)
    bench = Bench({"fp32": 0.002, "bf16": 0.001}, noise=lambda: draw.choice([0.0, 0.0, 0.2]))
    assert bench.measure()["bf16"] == pytest.approx(2.0, rel=0.02)


def test_precisions_take_turns() -> None:
    bench = Bench({"fp32": 0.001, "bf16": 0.001})
    bench.measure()
    rounds = [precision for precision, parts in bench.calls if parts == max(parts for _, parts in bench.calls)]
    assert rounds == ["fp32", "bf16"] * (len(rounds) // 2)
    assert len(rounds) >= 4


def test_a_precision_without_instructions_is_given_up_after_a_small_step() -> None:
    bench = Bench({"fp32": 0.01, "bf16": 1.0})
    assert bench.measure()["bf16"] == pytest.approx(0.01)
    assert all(parts == 1 for precision, parts in bench.calls if precision == "bf16")


def test_a_slow_cpu_gets_two_rounds_and_no_more() -> None:
    bench = Bench({"fp32": 0.5, "bf16": 0.5})
    bench.measure()
    assert len(bench.calls) == 2 * (6 + 2)


def test_the_real_measurement_takes_little_cpu_time_and_leaves_nothing_changed() -> None:
    threads, generator, began = torch.get_num_threads(), torch.get_rng_state(), time.process_time()
    speeds = measure_speeds()
    assert time.process_time() - began < 2
    assert speeds["fp32"] == 1.0
    assert speeds["bf16"] > 0
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), generator)


def test_it_is_measured_once(tmp_path: Path) -> None:
    first = get_cpu_speed(tmp_path, measure=lambda: FAST)
    assert first.relative == FAST
    assert get_cpu_speed(tmp_path, measure=never) == first


def test_it_is_kept_in_the_folder_for_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    get_cpu_speed(measure=lambda: FAST)
    assert only_file(tmp_path / "xdg" / "trainyard").name.startswith("cpu-speed-")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    get_cpu_speed(measure=lambda: FAST)
    assert only_file(tmp_path / "home" / ".cache" / "trainyard").name.startswith("cpu-speed-")


@pytest.mark.parametrize("what", ["_describe_cpu", "torch"])
def test_another_cpu_or_torch_is_measured_anew(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    get_cpu_speed(tmp_path, measure=lambda: FAST)
    if what == "torch":
        monkeypatch.setattr(torch, "__version__", "9.9.9")
    else:
        monkeypatch.setattr(cpu_speed, what, lambda: "another CPU")
    assert get_cpu_speed(tmp_path, measure=lambda: SLOW).relative == SLOW
    monkeypatch.undo()
    assert get_cpu_speed(tmp_path, measure=never).relative == FAST, "both are kept"


def test_a_limit_for_the_cpu_libraries_is_another_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    get_cpu_speed(tmp_path, measure=lambda: FAST)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert get_cpu_speed(tmp_path, measure=lambda: SLOW).relative == SLOW


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[]", b'{"cpu": "x", "torch": "y", "relative": {"fp32": 1.0, "bf16": 9.0}}', b"-1 of -1"],
)
def test_a_file_that_is_not_as_it_should_be_counts_as_none_and_is_replaced(content: bytes, tmp_path: Path) -> None:
    whole = get_cpu_speed(tmp_path, measure=lambda: FAST)
    path = only_file(tmp_path)
    path.write_bytes(content.replace(b"-1 of -1", path.read_bytes().replace(b"1.9", b"-1.9")))
    assert get_cpu_speed(tmp_path, measure=lambda: SLOW).relative == SLOW
    assert CpuSpeed.model_validate_json(path.read_bytes()) == whole.model_copy(update={"relative": SLOW})
    assert only_file(tmp_path) == path, "nothing else is left"


def test_a_folder_that_cannot_be_written_to_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert get_cpu_speed(tmp_path / "file" / "cache", measure=lambda: FAST).relative == FAST
    (tmp_path / "file").unlink()
    path = tmp_path / "cache"
    get_cpu_speed(path, measure=lambda: FAST)
    name = only_file(path).name
    only_file(path).unlink()
    (path / name).mkdir()  # nor is a folder in the file's place
    assert get_cpu_speed(path, measure=lambda: FAST).relative == FAST
    assert [entry.name for entry in path.iterdir()] == [name]


def _measure_at_once(folder: Path, together: Barrier, speed: float, answers: Queue[float]) -> None:
    def measure() -> dict[str, float]:
        together.wait(60)
        return {"fp32": 1.0, "bf16": speed}

    answers.put(get_cpu_speed(folder, measure=measure).relative["bf16"])


def test_processes_that_measure_at_once_go_by_one_of_them(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    together, answers = context.Barrier(3), context.Queue()
    speeds = [0.5, 1.05, 2.0]
    processes = [
        context.Process(target=_measure_at_once, args=(tmp_path, together, speed, answers)) for speed in speeds
    ]
    for process in processes:
        process.start()
    found = {answers.get(timeout=120) for _ in processes}
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert len(found) == 1
    assert found <= set(speeds)
    assert get_cpu_speed(tmp_path, measure=never).relative["bf16"] in found
    assert len(list(tmp_path.iterdir())) == 1
