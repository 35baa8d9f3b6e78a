"""Draws the learning curves of a run. No torch: the API draws them too."""

from __future__ import annotations

import gc
import io
import math
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_PX, HEIGHT_PX = 1000, 600
NO_POINTS = "no points yet"
_DPI = 100
_TRAIN, _VALIDATION, _TOP5, _RATE, _BEST = "#0072b2", "#d55e00", "#56b4e9", "#009e73", "#444444"  # Okabe and Ito's
_DOTS_UP_TO = 60  # points of a line that are marked each
_LOGARITHMIC_FROM = 30.0  # highest loss divided by the lowest
_drawing = threading.Lock()  # matplotlib shares fonts and parsers between figures and locks neither

Values = NDArray[np.float64]


def _no_values() -> Values:
    return np.empty(0)


@dataclass(frozen=True)
class Curves:
    """The values that a run measured, in the order of its steps; NaN where a value is missing."""

    step: Values = field(default_factory=_no_values)  #: of the series by step
    step_loss: Values = field(default_factory=_no_values)
    step_lr: Values = field(default_factory=_no_values)
    epoch: Values = field(default_factory=_no_values)  #: of the series by epoch
    epoch_step: Values = field(default_factory=_no_values)  #: the last step of that epoch
    train_loss: Values = field(default_factory=_no_values)
    val_loss: Values = field(default_factory=_no_values)
    val_top1: Values = field(default_factory=_no_values)
    val_top5: Values = field(default_factory=_no_values)
    best_epoch: int | None = None

    @classmethod
    def of(
        cls, by_step: Iterable[Mapping[str, Any]], by_epoch: Iterable[Mapping[str, Any]], best_epoch: int | None = None
    ) -> Curves:
        """Build curves from the points that a run reported.

        Args:
            by_step: with `step`, `train_loss`, `lr`; what is missing, None or not finite becomes a gap.
            by_epoch: with `epoch`, `step`, `train_loss`, `val_loss`, `val_top1`, `val_top5`; the same.
            best_epoch: the one to mark; None: none.
        """
        steps, epochs = list(by_step), list(by_epoch)
        return cls(
            step=_column(steps, "step"), step_loss=_column(steps, "train_loss"), step_lr=_column(steps, "lr"),
            epoch=_column(epochs, "epoch"), epoch_step=_column(epochs, "step"),
            train_loss=_column(epochs, "train_loss"), val_loss=_column(epochs, "val_loss"),
            val_top1=_column(epochs, "val_top1"), val_top5=_column(epochs, "val_top5"), best_epoch=best_epoch,
        )  # fmt: skip

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return len(self.step) == 0 and len(self.epoch) == 0


def draw_curves(curves: Curves, title: str = "") -> bytes:
    """Draw a PNG of 1000x600: loss and learning rate by step, accuracy by epoch, the best epoch marked.

    The same input gives the same bytes with the same version of matplotlib. It may be called from any thread, but draws
    only one picture at a time.

    Args:
        curves: any number of points, none included.
        title: one line above; its characters stand for themselves.
    """
    from matplotlib.figure import Figure

    with _drawing:
        figure = Figure(figsize=(WIDTH_PX / _DPI, HEIGHT_PX / _DPI), dpi=_DPI, facecolor="white")
        if title:
            figure.suptitle(title, fontsize=11, parse_math=False)
        if curves.is_empty:
            figure.text(0.5, 0.5, NO_POINTS, ha="center", va="center", fontsize=18, color="#777777")
        else:
            _draw_panels(figure, curves)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
        del figure
        gc.collect(1)  # its parts refer to each other: 4.5 MB that a server would keep until it next collects
    return buffer.getvalue()


def _draw_panels(figure: Figure, curves: Curves) -> None:
    axes = figure.subplot_mosaic([["loss", "accuracy"], ["rate", "accuracy"]], height_ratios=[5, 2])
    figure.subplots_adjust(left=0.065, right=0.985, bottom=0.085, top=0.9, wspace=0.16, hspace=0.22)
    axes["rate"].sharex(axes["loss"])
    _draw_loss(axes["loss"], curves)
    _draw_rate(axes["rate"], curves)
    _draw_accuracy(axes["accuracy"], curves)
    for panel in axes.values():
        panel.grid(color="#e4e4e4", linewidth=0.7)
        panel.set_axisbelow(True)
        panel.tick_params(labelsize=9)
        panel.spines[["top", "right"]].set_visible(False)


def _draw_loss(axes: Axes, curves: Curves) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    if np.isfinite(curves.step_loss).any():
        _draw_line(axes, curves.step, curves.step_loss, "train", _TRAIN, width=1.2)
    else:
        _draw_line(axes, curves.epoch_step, curves.train_loss, "train", _TRAIN)
    _draw_line(axes, curves.epoch_step, curves.val_loss, "validation", _VALIDATION)
    axes.set_title("loss", fontsize=10, loc="left")
    axes.tick_params(labelbottom=False)
    drawn = np.concatenate([curves.step_loss, curves.train_loss, curves.val_loss])
    drawn = drawn[np.isfinite(drawn)]
    if drawn.size and drawn.min() > 0 and drawn.max() / drawn.min() > _LOGARITHMIC_FROM:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    best = _index_of_best(curves)
    if best is not None:
        axes.axvline(curves.epoch_step[best], color=_BEST, linewidth=1, linestyle=":", zorder=1)
    _add_legend(axes)


def _draw_rate(axes: Axes, curves: Curves) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    _draw_line(axes, curves.step, curves.step_lr, "", _RATE)
    axes.set_title("learning rate", fontsize=10, loc="left")
    axes.set_xlabel("step", fontsize=9)
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, 1.04 * _highest(curves.step, curves.epoch_step))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    _add_legend(axes)


def _draw_accuracy(axes: Axes, curves: Curves) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    _draw_line(axes, curves.epoch, curves.val_top5, "top-5", _TOP5)
    _draw_line(axes, curves.epoch, curves.val_top1, "top-1", _VALIDATION)
    best = _index_of_best(curves)
    if best is not None and math.isfinite(curves.val_top1[best]):
        epoch, top1 = curves.epoch[best], curves.val_top1[best]
        axes.axvline(epoch, color=_BEST, linewidth=1, linestyle=":", zorder=1)
        label = f"best: epoch {epoch:.0f}, {top1:.2%}"
        axes.plot([epoch], [top1], "*", color=_BEST, markersize=13, label=label, zorder=4)
    axes.set_title("validation accuracy", fontsize=10, loc="left")
    axes.set_xlabel("epoch", fontsize=9)
    axes.set_xlim(0, 1.04 * _highest(curves.epoch))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    _add_legend(axes)


def _draw_line(axes: Axes, x: Values, y: Values, label: str, colour: str, width: float = 1.6) -> None:
    """Draw a line with gaps. Points without a neighbour, and all points of a short line, are drawn as dots."""
    there = np.isfinite(y)
    if not there.any():
        return
    beside = np.concatenate([[False], there[:-1]]) | np.concatenate([there[1:], [False]])
    dotted = there if len(y) <= _DOTS_UP_TO else there & ~beside
    axes.plot(
        x, y, color=colour, label=label, linewidth=width, marker="o", markersize=3.5,
        markevery=np.flatnonzero(dotted).tolist(),
    )  # fmt: skip


def _add_legend(axes: Axes) -> None:
    """Put the legend above the panel, where it hides no point."""
    if not axes.lines:
        axes.text(0.5, 0.5, NO_POINTS, transform=axes.transAxes, ha="center", va="center", color="#777777")
    elif axes.get_legend_handles_labels()[0]:
        axes.legend(
            loc="lower right", bbox_to_anchor=(1.01, 0.985), ncols=3, fontsize=9, frameon=False, columnspacing=1.0,
            handlelength=1.4, handletextpad=0.4,
        )  # fmt: skip


def _index_of_best(curves: Curves) -> int | None:
    if curves.best_epoch is None:
        return None
    found = np.flatnonzero(curves.epoch == curves.best_epoch)
    return int(found[-1]) if found.size else None


def _highest(*columns: Values) -> float:
    return max((float(column.max()) for column in columns if column.size), default=1.0)


def _column(points: list[Mapping[str, Any]], name: str) -> Values:
    column = np.array([math.nan if (value := point.get(name)) is None else value for point in points], np.float64)
    column[~np.isfinite(column)] = math.nan
    return column
