"""A description of the machine, to stand beside the numbers that were measured on it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path


def describe() -> str:
    """Return a sentence on processor, memory, system, and the versions of what every server uses."""
    cpu = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+) kB", _read("/proc/meminfo"), re.MULTILINE)
    parts = [
        f"{os.cpu_count()} cores of {cpu[1] if cpu else platform.machine()}",
        f"{int(memory[1]) / 2**20:.0f} GiB" if memory else "",
        f"Linux {platform.release()}",
        f"Python {platform.python_version()}",
        *(f"{name} {version}" for name in ("torch", "openvino") if (version := _find_version(name))),
        find_wrk() or "",
        f"load average before: {os.getloadavg()[0]:.1f}",
    ]
    return ", ".join(part for part in parts if part)


def find_wrk() -> str | None:
    """Return wrk's name and version; None: it is not installed."""
    try:
        done = subprocess.run(["wrk", "--version"], capture_output=True, text=True)
    except FileNotFoundError:
        return None
    words = (done.stdout + done.stderr).split()
    return " ".join(words[:2])


def _find_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _read(path: str) -> str:
    return Path(path).read_text() if Path(path).exists() else ""
