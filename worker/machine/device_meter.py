"""Reads how full and how busy the devices of a worker's slots are.

NVIDIA's tool is asked rather than torch, which would open each GPU and take some hundred MB of its memory. It is a
process of its own, so that a driver that hangs holds up this thread alone: heartbeats go on, and say that nothing is
known.
"""

from __future__ import annotations

import csv
import logging
import re
import threading
import time
from collections.abc import Callable, Sequence

from trainyard.scheduling.workers import DeviceReading
from worker.machine.devices import ask_nvidia_smi

log = logging.getLogger(__name__)

EVERY_S = 5.0
FRESH_S = 20.0  # an older reading is not told
MIB = 1024**2
QUERY = ("--query-gpu=uuid,name,memory.total,memory.used,utilization.gpu", "--format=csv,noheader,nounits")


def read_gpus() -> dict[str, DeviceReading]:
    """Return a reading of each GPU by its unique id; an empty one where NVIDIA's tool is not there or fails."""
    return parse_readings(ask_nvidia_smi(*QUERY))


def parse_readings(answer: str) -> dict[str, DeviceReading]:
    """Read what NVIDIA's tool prints. It writes `[N/A]` and the like for what it can't tell, as on a divided GPU."""
    readings = {}
    for fields in csv.reader(answer.splitlines(), skipinitialspace=True):
        if len(fields) != 5:
            continue
        gpu, name, total, used, busy = (field.strip() for field in fields)
        percent = _number(busy)
        readings[gpu] = DeviceReading(
            name=None if name.startswith("[") or not name else name,
            memory_bytes=_mebibytes(total),
            memory_used_bytes=_mebibytes(used),
            utilisation=None if percent is None else min(percent / 100, 1.0),
        )
    return readings


class DeviceMeter:
    """Reads the devices every few seconds in a thread of its own, if any of them is a GPU."""

    def __init__(
        self,
        devices: Sequence[str],
        gpus: Sequence[str],
        *,
        read: Callable[[], dict[str, DeviceReading]] = read_gpus,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare the reading.

        Args:
            devices: one a slot.
            gpus: the GPUs' unique ids, in the order of their numbers here.
            read: what reads all GPUs of the machine.
            clock: in seconds.
        """
        self._gpus = [_gpu_of(device, gpus) for device in devices]
        self._read, self._clock = read, clock
        self._last: tuple[float, dict[str, DeviceReading]] | None = None
        self._ended = threading.Event()

    def start(self) -> None:
        """Read the devices from now on. Where none is a GPU, there is nothing to read."""
        if any(self._gpus):
            threading.Thread(target=self._go_on, name="device-readings", daemon=True).start()

    def stop(self) -> None:
        """Read no more. It is not waited for a reading that hangs."""
        self._ended.set()

    def readings(self) -> list[DeviceReading | None]:
        """Return the last reading of each slot's device; None if there is none, or none that is recent."""
        last = self._last
        if last is None or self._clock() - last[0] > FRESH_S:
            return [None] * len(self._gpus)
        return [None if gpu is None else last[1].get(gpu) for gpu in self._gpus]

    def read_once(self) -> None:
        """Read the devices now."""
        self._last = (self._clock(), self._read())

    def _go_on(self) -> None:
        while not self._ended.is_set():
            try:
                self.read_once()
            except Exception:
                log.exception("the devices were not read")
            self._ended.wait(EVERY_S)


def _gpu_of(device: str, gpus: Sequence[str]) -> str | None:
    found = re.fullmatch(r"cuda:(\d+)", device)
    number = int(found[1]) if found else len(gpus)
    return gpus[number] if number < len(gpus) else None


def _mebibytes(text: str) -> int | None:
    number = _number(text)
    return None if number is None else round(number * MIB)


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else None
