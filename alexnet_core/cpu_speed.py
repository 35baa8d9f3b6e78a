"""Measures how fast this CPU computes a training step in each precision. The result is kept on disk.

A CPU's description does not tell: of two with the same bf16 instructions, one multiplies bf16 at six times the speed of
fp32, the other at half of it. So a few products and convolutions of the shapes that we train, forward and backward, are
timed in turns, on one thread and by that thread's own CPU clock, and the shortest time of each counts. Other programs
on the machine hardly change this, nor does the number of threads that a run has.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import BaseModel, ConfigDict, PositiveFloat, ValidationError
from torch import Tensor

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}  #: what a CPU is measured in
_ROUNDS = 6
_BUDGET_S = 0.5  # of CPU time, for the rounds; two are done in any case
_HOPELESS = 4.0  # times as slow as fp32 at a small step: without instructions of its own a precision may be 100 times
_SMALL, _FULL = 1, 8  # parts of the work
_PROBES = 6  # small steps of each precision

Work = Callable[[str, int], None]  #: computes in that precision, with so many parts of the work


class CpuSpeed(BaseModel):
    """The measured speeds, and the CPU and torch version that they belong to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu: str
    """Name, instructions and limits of the CPU as torch may use it."""
    torch: str
    """Version."""
    relative: Mapping[str, PositiveFloat]
    """Speed in each precision, as a multiple of that in fp32."""

    def is_of(self, cpu: str, version: str) -> bool:
        """Whether this was measured on that CPU with that version of torch, and in every precision."""
        return (self.cpu, self.torch) == (cpu, version) and self.relative.keys() == DTYPES.keys()


def get_cpu_speed(folder: Path | None = None, *, measure: Callable[[], Mapping[str, float]] | None = None) -> CpuSpeed:
    """Return the speeds of this CPU with this torch, from the disk or measured now, which takes under a second.

    A file that can't be read is ignored, and a folder that can't be written to is no error: the speeds are measured
    again next time. If two processes measure at the same time, both use the results of the one whose file was first.

    Args:
        folder: where it is kept; None: `trainyard` in the user's folder for caches.
        measure: gives the relative speeds; for tests.
    """
    cpu, version = _describe_cpu(), torch.__version__
    digest = hashlib.sha256(f"{cpu}|{version}|{sorted(DTYPES)}".encode()).hexdigest()
    path = (folder or _cache_folder()) / f"cpu-speed-{digest[:16]}.json"
    if (known := _read(path, cpu, version)) is not None:
        return known
    with contextlib.suppress(OSError):
        path.unlink()  # what stands there can't be read
    measured = CpuSpeed(cpu=cpu, torch=version, relative=(measure or measure_speeds)())
    _write(path, measured)
    return _read(path, cpu, version) or measured


def measure_speeds(
    work: Work | None = None, *, clock: Callable[[], float] = time.thread_time, precisions: tuple[str, ...] = ()
) -> dict[str, float]:
    """Measure the speed of each precision as a multiple of the speed of fp32.

    Args:
        work: what is timed; None: a step of products and convolutions like ours.
        clock: seconds that this thread has computed.
        precisions: fp32 and others; empty: those of `DTYPES`.
    """
    precisions = precisions or tuple(DTYPES)
    with _on_one_thread():
        compute = work or _make_work()

        def seconds(precision: str, parts: int) -> float:
            began = clock()
            compute(precision, parts)
            return clock() - began

        probes = {p: min(seconds(p, _SMALL) for _ in range(_PROBES)) for p in precisions}
        worth = [p for p in precisions if probes[p] <= _HOPELESS * probes["fp32"]]
        best, began = dict.fromkeys(worth, float("inf")), clock()
        for done in range(_ROUNDS):
            if done >= 2 and clock() - began > _BUDGET_S:
                break
            for precision in worth:
                best[precision] = min(best[precision], seconds(precision, _FULL))
    return {p: best["fp32"] / best[p] if p in best else probes["fp32"] / probes[p] for p in precisions}


def _make_work() -> Work:
    """Return a step to measure: forward and backward through two convolutions and two matrix products.

    The convolutions are over maps of 14x14; the products are with 1024 x 1024 weights.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        value = torch.randn(shape, generator=generator)
        if value.ndim == 4:
            value = value.contiguous(memory_format=torch.channels_last)
        return value.requires_grad_()

    maps, conv_5, conv_3 = draw(4, 64, 14, 14), draw(64, 64, 5, 5), draw(128, 64, 3, 3)
    rows, wide_1, wide_2 = draw(128, 1024), draw(1024, 1024), draw(1024, 1024)

    def work(precision: str, parts: int) -> None:
        x, y = maps[: max(1, 4 * parts // _FULL)], rows[: 128 * parts // _FULL]
        with torch.enable_grad(), torch.autocast("cpu", DTYPES[precision], enabled=precision != "fp32"):
            x = F.conv2d(F.relu(F.conv2d(x, conv_5, padding=2)), conv_3, padding=1)
            y = F.linear(F.relu(F.linear(y, wide_1)), wide_2)
            torch.autograd.grad(x.float().sum() + y.float().sum(), (maps, conv_5, conv_3, rows, wide_1, wide_2))

    return work


@contextlib.contextmanager
def _on_one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _describe_cpu() -> str:
    """Describe the CPU: its model and instructions, and which of them oneDNN and MKL are allowed to use."""
    flags = sorted(name for name, has in torch.cpu.get_capabilities().items() if has is True)
    limits = [f"{name}={os.environ[name]}" for name in _LIMITS if name in os.environ]
    return " ".join([_read_model(), torch.backends.cpu.get_cpu_capability(), *flags, *limits])


_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_DEFAULT_FPMATH_MODE")


def _read_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return "unknown"


def _cache_folder() -> Path:
    """Return the cache folder by the XDG rules, which say to ignore a relative path."""
    root = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (root if root.is_absolute() else Path(os.path.expanduser("~"), ".cache")) / "trainyard"


def _read(path: Path, cpu: str, version: str) -> CpuSpeed | None:
    try:
        known = CpuSpeed.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    return known if known.is_of(cpu, version) else None


def _write(path: Path, measured: CpuSpeed) -> None:
    """Write a complete file to its place unless there is one: the first writer wins."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".cpu-speed-")
        try:
            with open(descriptor, "w") as file:
                file.write(measured.model_dump_json(indent=1))
            os.link(name, path)
        finally:
            os.unlink(name)
