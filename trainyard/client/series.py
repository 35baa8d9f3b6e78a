"""A job's series as tables and plots."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Literal

from trainyard.client import models

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

Kind = Literal["by_epoch", "by_step"]


class _Tables:
    by_step: list[dict[str, Any]]
    by_epoch: list[dict[str, Any]]

    def to_pandas(self, series: Kind = "by_epoch") -> pandas.DataFrame:
        """Return a series as a table of pandas, with a row for each point; `pip install pandas`."""
        import pandas

        rows: list[dict[str, Any]] = getattr(self, series)
        table = pandas.DataFrame(rows)
        return table.set_index("epoch" if series == "by_epoch" else "step") if rows else table

    def plot(self) -> Figure:
        """Return losses and accuracies by epoch as a figure, which a notebook shows; `pip install matplotlib`."""
        from matplotlib.figure import Figure

        class Plot(Figure):
            """A figure that a notebook shows, whichever way it shows others."""

            def _repr_png_(self) -> bytes:
                file = io.BytesIO()
                self.savefig(file, format="png", dpi=110)
                return file.getvalue()

        figure = Plot(figsize=(9, 3.2), layout="constrained")
        losses, accuracies = figure.subplots(1, 2)
        for axes, lines, title in (
            (losses, (("train_loss", "training"), ("val_loss", "validation")), "loss"),
            (accuracies, (("val_top1", "top 1"), ("val_top5", "top 5")), "share of validation images that are right"),
        ):
            for field, label in lines:
                points = [(row["epoch"], row[field]) for row in self.by_epoch if row.get(field) is not None]
                if points:
                    axes.plot([epoch for epoch, _ in points], [value for _, value in points], label=label)
            axes.set_title(title)
            axes.set_xlabel("epoch")
            axes.grid(alpha=0.3)
            if axes.lines:
                axes.legend()
        return figure


class Metrics(_Tables, models.Metrics):
    """Both series of a job: `by_step` and `by_epoch`."""


class Series(_Tables, models.Series):
    """Both series of one of several jobs: `by_step` and `by_epoch`."""
