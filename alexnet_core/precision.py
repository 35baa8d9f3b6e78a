"""Chooses the precision in which a network is trained and validated, and says why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from alexnet_core.cpu_speed import get_cpu_speed
from alexnet_core.errors import ConfigError

_WORTH = 1.1  # times the speed of fp32, below which fp32's digits are worth more
_TOO_SLOW = 3.0  # times the time of the best precision: a resumed run does not keep such a one


@dataclass(frozen=True)
class Precision:
    """A precision and why it was chosen."""

    name: str  #: `fp32`, `bf16` or `fp16`
    reason: str  #: a sentence's part, for people


def choose_precision(
    wanted: str, device: torch.device, *, begun_in: str | None = None, cache_folder: Path | None = None
) -> Precision:
    """Choose the precision to compute in.

    `auto` is what was measured to be fastest on this CPU (see `cpu_speed`), and on a GPU bf16 if it has instructions
    for it. A resumed run keeps its precision, unless this device can't compute in it, or takes several times as long as
    in another.

    Args:
        wanted: `auto`, `fp32`, `bf16` or `fp16`.
        device: where the network is.
        begun_in: by which precision the run has got here; None: it begins.
        cache_folder: where the measurement is kept; None: in the user's folder for caches.

    Raises:
        ConfigError: the device can't compute in what is asked for.
    """
    if wanted == "fp16" and device.type != "cuda":
        raise ConfigError("precision fp16 needs a GPU: use auto, bf16 or fp32", param="overrides.precision")
    if wanted != "auto":
        return Precision(wanted, "as the config says")
    if device.type == "cuda":
        return _choose_for_gpu(begun_in)
    return _choose_for_cpu(get_cpu_speed(cache_folder).relative, begun_in)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which a network computes in that precision; its weights stay fp32."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision != "fp32")


def _choose_for_gpu(begun_in: str | None) -> Precision:
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    if begun_in is not None and (has_bf16 or begun_in != "bf16"):
        return Precision(begun_in, "the run began in it")
    if has_bf16:
        return Precision("bf16", "this GPU has instructions for it")
    return Precision("fp32", "this GPU has no instructions for bf16")


def _choose_for_cpu(speed: Mapping[str, float], begun_in: str | None) -> Precision:
    best = max(speed, key=lambda name: speed[name])
    best = best if speed[best] >= _WORTH else "fp32"
    own = speed.get(begun_in) if begun_in is not None else None
    if begun_in is not None and own is not None and speed[best] <= _TOO_SLOW * own:
        return Precision(begun_in, "the run began in it")
    reason = _compare(best, speed)
    if own is not None:
        reason += f"; {begun_in}, in which the run began, is {speed[best] / own:.0f} times slower"
    elif begun_in is not None:
        reason += f"; the run began in {begun_in}, which needs a GPU"
    return Precision(best, reason)


def _compare(best: str, speed: Mapping[str, float]) -> str:
    if best != "fp32":
        return f"{speed[best]:.2g} times as fast as fp32 on this CPU"
    others = [(name, value) for name, value in speed.items() if name != "fp32"]
    return ", ".join(
        f"{name} is {'slower' if value < 1 else 'hardly faster'} on this CPU ({value:.2g} times as fast as fp32)"
        for name, value in others
    )
