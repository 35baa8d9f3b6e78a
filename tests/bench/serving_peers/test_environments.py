"""What the peers' environments share with the running interpreter."""

import subprocess
import sys
from pathlib import Path

from bench.serving_peers.environments import find_needed, link_shared, look_into


def test_needed_packages_are_found_through_others_and_nothing_else_is() -> None:
    found = find_needed(["torchvision"])
    assert {"torchvision", "torch", "numpy", "pillow"} <= found
    assert not {"fastapi", "sqlalchemy", "pytest"} & found


def test_links_lie_outside_the_environments_where_pip_would_write_through_them(tmp_path: Path) -> None:
    environment = tmp_path / "peer"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    links = link_shared(tmp_path / "cache")
    assert (links / "torch").is_symlink()
    assert not (links / "fastapi").exists()
    look_into(links, environment)
    [site] = environment.glob("lib/python*/site-packages")
    assert not [path for path in site.rglob("*") if path.is_symlink()]
    code = "import importlib.util, sys; print(importlib.util.find_spec('torch').origin, sys.path[-2:])"
    python = environment / "bin" / "python"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.startswith(f"{links / 'torch'}/")
    assert done.stdout.strip().endswith(f"['{site}', '{links}']"), "its own packages come first"


def test_links_are_made_anew_without_touching_what_they_lead_to(tmp_path: Path) -> None:
    links = link_shared(tmp_path)
    target = (links / "torch").resolve()
    (links / "stale").symlink_to(target)
    assert not (link_shared(tmp_path) / "stale").is_symlink()
    assert (target / "__init__.py").exists()
