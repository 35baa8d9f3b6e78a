"""Finds the devices that a worker's slots use, and the lock file of each."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from trainyard.settings import Settings

NVIDIA_SMI_S = 20.0  # it takes seconds where the driver has to wake the GPUs first
_GPU_LINE = re.compile(r"^GPU \d+: .*\(UUID: ([\w-]+)\)", re.M)


def list_devices(settings: Settings) -> tuple[str, ...]:
    """List one device for each slot: those of the setting, else every GPU that this process may use, else the CPU.

    Returns:
        Such as `("cuda:0", "cuda:1")` or `("cpu",)`; `settings.slots` says how many, sharing devices in turn.
    """
    named = [name.strip() for name in settings.devices.split(",") if name.strip()]
    gpus = [f"cuda:{index}" for index in range(len(list_gpus()))]
    devices = gpus or ["cpu"] if named in ([], ["auto"]) else named
    slots = settings.slots or len(devices)
    return tuple(devices[index % len(devices)] for index in range(slots))


def threads_per_slot(settings: Settings, slots: int) -> int:
    """Return the CPU threads of each trainer."""
    return settings.trainer_threads or max(1, (os.cpu_count() or 1) // slots)


def list_gpus() -> list[str]:
    """List the GPUs' unique ids, in the order in which torch will number them."""
    return choose_visible(_GPU_LINE.findall(_ask_driver()), os.environ.get("CUDA_VISIBLE_DEVICES"))


def choose_visible(gpus: Sequence[str], visible: str | None) -> list[str]:
    """Apply `CUDA_VISIBLE_DEVICES` to the driver's list. As in CUDA, an unknown entry ends it."""
    if visible is None:
        return list(gpus)
    chosen: list[str] = []
    for entry in visible.split(","):
        name = entry.strip()
        found = [gpu for index, gpu in enumerate(gpus) if name == str(index) or (name and gpu.startswith(name))]
        if len(found) != 1:
            break
        chosen += found
    return chosen


def lock_paths(settings: Settings, worker_id: str, devices: Sequence[str], gpus: Sequence[str]) -> list[Path]:
    """Return for each slot the file that a trainer locks while it uses the slot.

    A GPU's file is named by its unique id, so that all workers mean the same GPU, whatever number it has for them. A
    worker's second slot on a GPU has a second file. Each CPU slot has its own.
    """
    folder = settings.locks_dir or Path(tempfile.gettempdir()) / f"trainyard-locks-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    names: list[str] = []
    uses: Counter[str] = Counter()
    for index, device in enumerate(devices):
        number = int(device.removeprefix("cuda:")) if re.fullmatch(r"cuda:\d+", device) else None
        if device == "cpu":
            names.append(f"{worker_id}-{index}")
            continue
        gpu = gpus[number] if number is not None and number < len(gpus) else f"{socket.gethostname()}-{device}"
        names.append(f"{gpu.replace(':', '-')}-{uses[device]}")
        uses[device] += 1
    return [folder / f"{name}.lock" for name in names]


def _ask_driver() -> str:
    return ask_nvidia_smi("-L")


def ask_nvidia_smi(*options: str) -> str:
    """Return what NVIDIA's tool prints, because asking torch would take a second and some hundred MB.

    Returns:
        Nothing if there is no such tool, or if it fails or hangs, as with a GPU that is broken.
    """
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    try:
        answer = subprocess.run([tool, *options], capture_output=True, text=True, timeout=NVIDIA_SMI_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout if answer.returncode == 0 else ""
