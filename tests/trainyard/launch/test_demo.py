"""`trainyard demo`: what a newcomer runs first, as a whole."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]


def test_the_demo_trains_predicts_and_stops() -> None:
    command = [sys.executable, "-m", "trainyard", "demo", "--epochs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^  epoch +2 ", done.stdout, re.MULTILINE), done.stdout  # a first one may pass between two looks
    assert re.search(r"^test accuracy 0\.\d+ on 360 images", done.stdout, re.MULTILINE)
    assert re.search(r"^POST /predict with a test image of class \d -> \d \(0\.\d+\)", done.stdout, re.MULTILINE)
