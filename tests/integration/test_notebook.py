"""The notebook of the documentation, run from its first cell to its last against a yard that trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

from tests.integration.running import RunningYard

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebooks" / "train-and-predict.ipynb"


def outputs_of(cell: Any, kind: str) -> str:
    """What a cell shows in a form, such as text/html."""
    found = [output.get("data", {}).get(kind, "") for output in cell.outputs]
    return "\n".join([*map(str, found), *(output.get("text", "") for output in cell.outputs if kind == "text/plain")])


def test_the_notebook_trains_plots_and_predicts(yard: RunningYard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_URL", yard.url)
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "it is committed without what it showed"
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    recipes, trained, table, plot, answer, evaluation = [
        cell for cell in notebook.cells if cell.cell_type == "code" and cell.outputs
    ]
    assert "quick" in outputs_of(recipes, "text/plain")
    bar = outputs_of(trained, "text/html")
    assert "succeeded · epoch 4 of 4" in bar
    assert "value='100.0'" in bar
    assert "succeeded, epoch 4 of 4" in outputs_of(trained, "text/plain")
    assert "val_top1" in outputs_of(table, "text/html")
    assert len(outputs_of(plot, "image/png")) > 10_000
    assert outputs_of(answer, "text/plain").count(":") == 3
    assert "of 360 test images are right" in outputs_of(evaluation, "text/plain")
