"""A real yard under random faults keeps every promise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.chaos
def test_no_job_is_lost_doubled_or_lied_about(tmp_path: Path) -> None:
    """A hundred jobs and some three hundred faults; minutes on an idle machine, more on a busy one."""
    command = [sys.executable, "-m", "tests.chaos.storm", str(tmp_path / "yard"), "--jobs", "100"]
    assert subprocess.run(command, check=False).returncode == 0
