"""Explains why a training option is refused: its value is out of range, or it has no effect. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from alexnet_core.errors import ConfigError

_LRN = ("lrn", "lrn_2012_code", "lrn_caffe")
_NEEDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "lr_steps": ("schedule", ("multistep",)),
    "plateau_patience": ("schedule", ("plateau",)),
    "plateau_factor": ("schedule", ("plateau",)),
    "plateau_drops": ("schedule", ("plateau",)),
    "warmup_fraction": ("schedule", ("cosine", "one_cycle")),
    "momentum": ("optimiser", ("sgd", "sgd_lr_in_velocity")),
    "nesterov": ("optimiser", ("sgd", "sgd_lr_in_velocity")),
    "lrn_size": ("norm", _LRN),
    "lrn_k": ("norm", _LRN),
    "lrn_alpha": ("norm", _LRN),
    "lrn_beta": ("norm", _LRN),
    "lrn_within_tower": ("norm", _LRN),
    "map_norm_size": ("map_norm_layers", ()),
    "map_norm_k": ("map_norm_layers", ()),
    "map_norm_alpha": ("map_norm_layers", ()),
    "map_norm_beta": ("map_norm_layers", ()),
    "colour_form": ("colour_std", ()),
    "colour_until_epoch": ("colour_std", ()),
}  #: options that have no effect unless another one has one of these values; (): unless it is above 0 or not empty


def refuse_idle(names: Iterable[str], before: BaseModel, after: BaseModel) -> None:
    """Refuse a changed option if the other options leave it without effect.

    Args:
        names: the options that were overridden.
        before: the configuration without the overrides.
        after: the configuration with them.

    Raises:
        ConfigError: an option has no effect; `param` names it.
    """
    for name in _NEEDS.keys() & set(names):
        setting, values = _NEEDS[name]
        found = getattr(after, setting)
        changed = getattr(after, name) not in (getattr(before, name), type(after).model_fields[name].default)
        if changed and not (found in values if values else found):
            raise ConfigError(
                f"overrides.{name} has no effect if {setting} is {_show(found)}: it needs "
                f"{_tell_needed(setting, values, found)}. Override that too, or leave {name} out",
                param=f"overrides.{name}",
            )


def explain(param: str, error: Any, fields: Mapping[str, FieldInfo]) -> str:
    """Turn one of pydantic's errors into a sentence with the option, the value and what is allowed."""
    if error["type"] == "extra_forbidden":
        return f"{param} is not a setting of a recipe; there are: {', '.join(fields)}"
    reason = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:
        return f"{param} do not fit together: {reason}"
    limits = _limits(fields.get(str(error["loc"][0])))
    return f"{param} is {repr(error['input'])[:80]}: {reason}{f' (allowed: {limits})' if limits else ''}"


def _tell_needed(setting: str, values: tuple[str, ...], found: object) -> str:
    if values:
        return f"{setting} {' or '.join(values)}"
    return f"a {setting} above 0" if isinstance(found, int | float) else f"{setting}"


def _show(value: object) -> str:
    return "empty" if value == () else str(value)


def _limits(field: FieldInfo | None) -> str:
    """Return the range of a number in words; empty if a field has none."""
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    bounds = [
        (sign, getattr(item, key, None)) for item in (field.metadata if field else []) for key, sign in signs.items()
    ]
    return ", ".join(f"{sign} {bound}" for sign, bound in bounds if bound is not None)
