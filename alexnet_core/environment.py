"""Where a run computes: device, threads, precision, and what decides whether two places give the same bits."""

from __future__ import annotations

from typing import Any

import torch

from alexnet_core.config import TrainConfig
from alexnet_core.errors import ConfigError, OutOfMemory

_FAST_BF16 = ("amx_bf16", "avx512_bf16")  # CPU instructions that multiply bf16; measured on the latter: see README


def require_device(device: str) -> None:
    """See that a device is one that we train on, and is here.

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
            f"device {device!r} is unknown: use cpu, cuda, or a GPU by its number, as cuda:0", param="device"
        )
    count = torch.cuda.device_count()
    if int(number or 0) >= count:
        found = f"PyTorch finds {count}, counted from 0" if count else "PyTorch finds no GPU; use cpu"
        raise ConfigError(f"device {device} is not here: {found}", param="device")


def select_precision(config: TrainConfig, device: torch.device) -> str:
    """`fp32`, `bf16` or `fp16`; `auto` is bf16 where the hardware multiplies it natively and faster.

    Raises:
        ConfigError: the device can't compute in what the config asks for.
    """
    if config.precision == "fp16" and device.type != "cuda":
        raise ConfigError("precision fp16 needs a GPU: use auto, bf16 or fp32", param="overrides.precision")
    if config.precision != "auto":
        return config.precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    capabilities = torch.cpu.get_capabilities()
    return "bf16" if any(capabilities.get(name, False) for name in _FAST_BF16) else "fp32"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which a network computes in that precision; its weights stay fp32."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision != "fp32")


def explain_memory(exc: BaseException) -> OutOfMemory | None:
    """Translate an error that means that a GPU or this machine ran out of memory; None: it is another error."""
    if not isinstance(exc, MemoryError | torch.cuda.OutOfMemoryError) and "can't allocate memory" not in str(exc):
        return None
    summary = (str(exc).splitlines() or ["MemoryError"])[0]
    return OutOfMemory(f"memory ran out ({summary}): lower batch_size")


def describe_environment(device: torch.device, precision: str) -> dict[str, Any]:
    """Everything that a run's bits depend on besides its config, data and seed."""
    return {
        "torch": torch.__version__,
        "device_type": device.type,
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cpu_capability": torch.backends.cpu.get_cpu_capability() + _amx(),
        "num_threads": torch.get_num_threads(),
        "precision": precision,
    }


def is_bit_exact(before: dict[str, Any] | None, now: dict[str, Any]) -> bool:
    """Tell whether a run that moved between two environments ends with the bits of one that did not.

    Never on a GPU: its kernels add up in an order of their own, another one each time.
    """
    return before == now and now["device_type"] == "cpu"


def _amx() -> str:
    """CPUs with and without these instructions say the same of themselves, and multiply bf16 differently."""
    return "+AMX" if torch.cpu.get_capabilities().get("amx_bf16", False) else ""
