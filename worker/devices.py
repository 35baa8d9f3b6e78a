"""Which devices a worker's slots use."""

from __future__ import annotations

import os
import shutil
import subprocess

from trainyard.settings import Settings


def list_devices(settings: Settings) -> tuple[str, ...]:
    """One device a slot: as set, or every GPU that the driver lists, or the CPU.

    Returns:
        Such as `("cuda:0", "cuda:1")` or `("cpu",)`; `settings.slots` says how many, sharing devices in turn.
    """
    named = [name.strip() for name in settings.devices.split(",") if name.strip()]
    devices = _list_gpus() or ["cpu"] if named in ([], ["auto"]) else named
    slots = settings.slots or len(devices)
    return tuple(devices[index % len(devices)] for index in range(slots))


def threads_per_slot(settings: Settings, slots: int) -> int:
    """CPU threads of each trainer."""
    return settings.trainer_threads or max(1, (os.cpu_count() or 1) // slots)


def _list_gpus() -> list[str]:
    """The GPUs by NVIDIA's own tool: asking torch would take a second and some hundred MB."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        listing = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = [line for line in listing.stdout.splitlines() if line.startswith("GPU ")] if listing.returncode == 0 else []
    return [f"cuda:{index}" for index in range(len(lines))]
