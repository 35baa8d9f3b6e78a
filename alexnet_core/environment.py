"""Describes where a run computes: the device, the threads, and whatever else can change the resulting bits."""

from __future__ import annotations

from typing import Any

import torch

from alexnet_core.errors import ConfigError

#: What people call the parts of an environment.
_WORDS = {
    "torch": "torch", "device_type": "kind of device", "device_name": "device", "cpu_capability": "CPU instructions",
    "num_threads": "threads", "precision": "precision", "world_size": "processes", "towers": "towers",
}  # fmt: skip


def require_device(device: str) -> None:
    """Check that training supports the device and that this machine has it.

    Args:
        device: `cpu`, `cuda` or a GPU by its number: `cuda:0`.

    Raises:
        ConfigError: it is not.
    """
    if device == "cpu":
        return
    kind, _, number = device.partition(":")
    if kind != "cuda" or (device != kind and not number.isdecimal()):
        raise ConfigError(
            f"device {device!r} is unknown: use cpu, cuda, or a GPU by its number, such as cuda:0", param="device"
        )
    count = torch.cuda.device_count()
    if int(number or 0) >= count:
        found = f"PyTorch finds {count}, counted from 0" if count else "PyTorch finds no GPU; use cpu"
        raise ConfigError(f"device {device} is not on this machine: {found}", param="device")


def describe_environment(device: torch.device, precision: str) -> dict[str, Any]:
    """Return everything that the resulting bits depend on besides config, data and seed."""
    return {
        "torch": torch.__version__,
        "device_type": device.type,
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cpu_capability": torch.backends.cpu.get_cpu_capability() + _amx(),
        "num_threads": torch.get_num_threads(),
        "precision": precision,
    }


def explain_difference(before: dict[str, Any] | None, now: dict[str, Any]) -> str | None:
    """Explain why a run that moved between two environments may give other bits than one that did not.

    On a GPU it always may, because its kernels add up in a different order each time. None: it gives the same bits.
    """
    before = before or {}
    changes = [
        f"{_WORDS.get(key, key)}: {_say(before.get(key))} before, {_say(now.get(key))} now"
        for key in before | now
        if before.get(key) != now.get(key)
    ]
    if not changes and now["device_type"] == "cpu":
        return None
    return "the weights may differ in bits from those of a run that stayed: " + (
        "; ".join(changes) or "a GPU adds up in another order each time"
    )


def _say(value: Any) -> str:
    return "none" if value is None else str(value)


def _amx() -> str:
    """Return `+AMX` if the CPU has these instructions, else nothing.

    CPUs with and without them describe themselves equally, but multiply bf16 differently.
    """
    return "+AMX" if torch.cpu.get_capabilities().get("amx_bf16", False) else ""
