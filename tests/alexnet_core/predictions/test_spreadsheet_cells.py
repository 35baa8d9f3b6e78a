"""No cell becomes a formula."""

from __future__ import annotations

import pytest

from alexnet_core.predictions.spreadsheet_cells import disarm


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "  =1", "\uff1d1"])
def test_what_a_spreadsheet_would_run_gets_an_apostrophe(text: str) -> None:
    assert disarm(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "cat", "a=b", "1-2", "'=1"])
def test_other_texts_stay(text: str) -> None:
    assert disarm(text) == text
