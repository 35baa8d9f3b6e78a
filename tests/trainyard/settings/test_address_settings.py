from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from trainyard.settings import Settings


def test_a_network_address_without_a_key_is_refused() -> None:
    with pytest.raises(ValueError, match="TRAINYARD_ADMIN_KEY"):
        Settings(host="0.0.0.0").check_exposure()
    Settings(host="127.0.0.1").check_exposure()
    Settings(host="0.0.0.0", admin_key="k" * 16).check_exposure()
    Settings(host="0.0.0.0", allow_open_network=True).check_exposure()


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="admin_key is shorter than 16 characters"):
        Settings(admin_key="short")


@pytest.mark.parametrize("program", ["worker", "api", "trainyard migrate"])
def test_a_key_that_is_too_short_is_not_printed(program: str, tmp_path: Path) -> None:
    environment = os.environ | {"TRAINYARD_ADMIN_KEY": "hunter2", "TRAINYARD_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", *program.split()]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "admin_key is shorter than 16 characters" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    assert done.stderr.count("\n") == 1
