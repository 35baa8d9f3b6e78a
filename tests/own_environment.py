"""Environments for programs that our tests meet but that we do not install: one sees our packages after its own."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def make_environment(folder: Path, *requirements: str) -> Path:
    """Install requirements beside the packages of the running interpreter; returns the folder of the programs.

    Skips the test where they can't be installed.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    [site] = folder.glob("lib/python*/site-packages")
    paths = [path for path in sys.path if path.endswith("site-packages")]
    (site / "shared.pth").write_text("\n".join([str(ROOT), *paths, sysconfig.get_path("purelib")]) + "\n")
    return _install(folder, [str(folder / "bin" / "python"), "-m", "pip"], requirements)


def make_separate_environment(folder: Path, *requirements: str) -> Path:
    """Install requirements that want other versions of packages than ours, and see none of ours; else the same."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    return _install(folder, [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")], requirements)


def _install(folder: Path, pip: list[str], requirements: tuple[str, ...]) -> Path:
    command = [*pip, "install", "--quiet", "--no-compile", "--disable-pip-version-check", *requirements]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=400)
    if done.returncode != 0:
        pytest.skip(f"{' '.join(requirements)} can't be installed here: {done.stderr.strip().splitlines()[-1:]}")
    return folder / "bin"
