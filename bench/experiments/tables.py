"""Writes the results of an experiment as Markdown. Errors are printed in percent."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Records = Mapping[str, Sequence[Mapping[str, Any]]]  #: by arm, in the order of the seeds


def list_steps(records: Records) -> Iterator[str]:
    """List the steps to the training error at which the runs ended, also relative to the first arm."""
    first: float | None = None
    yield "| | lr | initial weights | steps, by seed | mean | relative to the first |"
    yield "|---|---|---|---|---|---|"
    for name, runs in records.items():
        config, steps = runs[0]["config"], [run["steps_to"] for run in runs]
        mean = None if None in steps else statistics.mean(steps)
        first = mean if first is None else first
        cells = [name, f"{config['lr']}", f"`{config['init']}`", ", ".join(map(_or_never, steps))]
        yield _row(*cells, _or_never(mean), f"{mean / first:.2f}" if mean and first else "")


def list_errors(records: Records) -> Iterator[str]:
    """List the errors at the end, and how each arm differs from the first."""
    yield (
        "| | parameters | test error, by seed | mean | difference from the first | validation error, mean | "
        "training error at the end, mean | CPU seconds a run |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    first: list[float] | None = None
    for name, runs in records.items():
        errors = [100 * run["test_error"] for run in runs if run["test_error"] is not None]
        best = [100 * min(point["val_error"] for point in run["epochs"]) for run in runs]
        trained = [100 * run["epochs"][-1]["train_error"] for run in runs]
        each, mean = ", ".join(f"{error:.2f}" for error in errors), f"{statistics.mean(errors):.2f}" if errors else ""
        apart = "" if not errors or first is None else format_difference(errors, first)
        first = errors if first is None else first
        yield _row(
            name, f"{runs[0]['parameters']:,}", each, mean, apart, f"{statistics.mean(best):.2f}",
            f"{statistics.mean(trained):.2f}", f"{statistics.mean(run['cpu_s'] for run in runs):.0f}",
        )  # fmt: skip


def list_epochs(records: Records) -> Iterator[str]:
    """List training error, validation error and validation loss by epoch, as means over the seeds."""
    yield (
        "| epoch | "
        + " | ".join(f"{name}: training error | validation error | validation loss" for name in records)
        + " |"
    )
    yield "|---" * (1 + 3 * len(records)) + "|"
    for at in range(min(len(run["epochs"]) for runs in records.values() for run in runs)):
        cells = [str(at + 1)]
        for runs in records.values():
            points = [run["epochs"][at] for run in runs]
            cells += [f"{100 * statistics.mean(p[name] for p in points):.2f}" for name in ("train_error", "val_error")]
            cells.append(f"{statistics.mean(p['val_loss'] for p in points):.3f}")
        yield _row(*cells)


def list_factors(records: Records) -> Iterator[str]:
    """List what the response norms multiply by, as the range over the seeds; nothing without such norms."""
    for name, runs in records.items():
        for layer in runs[0]["norm_factors"]:
            ends = [run["norm_factors"][layer] for run in runs]
            yield f"{name}, {layer}: factors from {min(e[0] for e in ends):.4f} to {max(e[1] for e in ends):.4f}"


def format_difference(values: Sequence[float], others: Sequence[float]) -> str:
    """Return the difference of the means in points; with its standard error if each has two values."""
    difference = statistics.mean(values) - statistics.mean(others)
    if min(len(values), len(others)) < 2:
        return f"{difference:+.2f}"
    error = math.sqrt(sum(statistics.variance(of) / len(of) for of in (values, others)))
    return f"{difference:+.2f} ± {error:.2f}"


def _or_never(value: float | None) -> str:
    return "never" if value is None else f"{value:,.0f}"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
