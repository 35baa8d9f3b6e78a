"""A command that is told to be typed is found by the shell."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from trainyard.terminal.command_name import own_name


@pytest.mark.parametrize(
    ("called", "typed"),
    [
        (".venv/bin/trainyard", ".venv/bin/trainyard"),
        ("{bin}/trainyard", "trainyard"),
        ("/elsewhere/trainyard", "/elsewhere/trainyard"),
        ("/usr/lib/trainyard/__main__.py", "trainyard"),
    ],
)
def test_a_command_has_a_path_where_its_name_is_not_enough(
    called: str, typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trainyard").touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(sys, "argv", [called.format(bin=tmp_path)])
    assert own_name() == typed
