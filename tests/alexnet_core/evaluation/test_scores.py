"""The results of an evaluation can be read where torch is not."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from alexnet_core.evaluation.scores import Guess


def test_reading_them_needs_no_torch() -> None:
    code = "import sys, alexnet_core.evaluation.scores; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError):
        Guess.model_validate({"label": "a", "index": 0, "probability": 0.5, "colour": "red"})
