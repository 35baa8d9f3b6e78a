"""An environment for each peer: made once, with exactly the named versions.

The large packages that all servers need are not installed again. A folder of links leads to those of the running
interpreter, and each environment looks there after its own packages. So every peer computes with the same PyTorch, and
none sees anything else of ours.

The links never lie within an environment: pip would write through them, into the running interpreter's packages.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

SHARED = ("torch", "torchvision", "safetensors", "openvino")  #: and what they need
_LINKS = "shared-packages"
_STAMP = "trainyard-peer.txt"  # the requirements that are installed; written last


class NotInstalled(Exception):
    """A peer can't be installed here."""


def default_cache() -> Path:
    """Return the user's folder for caches, by the XDG rules, which say to ignore a relative path."""
    root = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (root if root.is_absolute() else Path.home() / ".cache") / "trainyard" / "serving-peers"


def prepare(name: str, requirements: Iterable[str], cache: Path, links: Path) -> Path:
    """Return the Python of a peer's environment, which is made if it is missing or has other requirements.

    Args:
        name: of the environment's folder.
        requirements: what pip installs.
        cache: where the environments are.
        links: see `link_shared`.

    Raises:
        NotInstalled: pip failed.
    """
    folder, wanted = cache / name, "\n".join([sys.version, *SHARED, *requirements])
    python, stamp = folder / "bin" / "python", folder / _STAMP
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    look_into(links, folder)
    missing = [shared for shared in SHARED if not _is_installed(shared)]
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements, *missing]
    done = subprocess.run(pip, capture_output=True, text=True, cwd=folder)
    if done.returncode:
        raise NotInstalled(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"pip: {done.returncode}")
    stamp.write_text(wanted)
    return python


def look_into(links: Path, environment: Path) -> None:
    """Make an environment find packages in a folder, after its own."""
    [site] = environment.glob("lib/python*/site-packages")
    (site / "shared-packages.pth").write_text(f"{links}\n")


def link_shared(cache: Path) -> Path:
    """Make a folder of links to the shared packages of the running interpreter, anew, and return it."""
    folder = cache / _LINKS
    shutil.rmtree(folder, ignore_errors=True)  # removes links, not what they lead to
    folder.mkdir(parents=True)
    for name in find_needed(name for name in SHARED if _is_installed(name)):
        distribution = metadata.distribution(name)
        for top in {Path(str(file)).parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            target, link = Path(str(distribution.locate_file(top))), folder / top
            if target.exists() and not link.exists():
                link.symlink_to(target)
    return folder


def find_needed(names: Iterable[str]) -> set[str]:
    """Return installed packages and all installed ones that they need, by their normalised names."""
    found: set[str] = set()
    waiting = [_normalise(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name not in found and _is_installed(name):
            found.add(name)
            needs = metadata.requires(name) or []
            waiting += [_normalise(re.split(r"[^\w.-]", need)[0]) for need in needs if "extra ==" not in need]
    return found


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
