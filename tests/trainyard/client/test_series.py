from __future__ import annotations

import numpy as np
import pandas
import pytest

from trainyard.client.series import Metrics

SERIES = {
    "object": "metrics", "job": "job_1", "last_step": 20, "thinned": False,
    "by_step": [{"step": 5, "epoch": 0, "train_loss": 2.0}, {"step": 15, "epoch": 1, "train_loss": None}],
    "by_epoch": [
        {"step": 10, "epoch": 1, "train_loss": 1.5, "val_top1": 0.5},
        {"step": 20, "epoch": 2, "train_loss": 0.5, "val_top1": 0.75},
    ],
}  # fmt: skip


def test_series_become_tables() -> None:
    metrics = Metrics.read(SERIES)
    by_epoch = metrics.to_pandas()
    assert isinstance(by_epoch, pandas.DataFrame)
    assert by_epoch["val_top1"].to_dict() == {1: 0.5, 2: 0.75}
    by_step = metrics.to_pandas("by_step")
    assert by_step.index.tolist() == [5, 15]
    assert by_step["train_loss"].isna().tolist() == [False, True]
    assert Metrics.read(SERIES | {"by_epoch": []}).to_pandas().empty


def test_series_become_a_figure_with_what_there_is() -> None:
    figure = Metrics.read(SERIES).plot()
    assert figure._repr_png_().startswith(b"\x89PNG"), "a notebook shows it"  # type: ignore[attr-defined]  # of a subclass
    losses, accuracies = figure.axes
    assert [list(np.asarray(line.get_ydata())) for line in losses.lines] == [[1.5, 0.5]]
    assert [line.get_label() for line in accuracies.lines] == ["top 1"]
    assert [len(axes.lines) for axes in Metrics.read(SERIES | {"by_epoch": []}).plot().axes] == [0, 0]


@pytest.mark.parametrize("kind", ["by_epoch", "by_step"])
def test_points_have_a_type(kind: str) -> None:
    assert all(isinstance(point, dict) for point in getattr(Metrics.read(SERIES), kind))
