"""Identifies the build: the release, with the commit if the code is in a checkout, else with a digest of the code.

An image or a wheel has no commit with it, and two of the same release may hold different code.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from trainyard import __version__

_ROOT = Path(__file__).resolve().parent.parent
_PACKAGES = ("alexnet_core", "api", "trainyard", "worker")
_SHORT = 9  # digits of a commit or a digest: enough to be alone in a repository of this size


@cache
def build_id() -> str:
    """Return the build's id: in a checkout such as `0.1.0+3f9c2a71b`, elsewhere such as `0.1.0+code.3f9c2a71b`."""
    commit = find_commit(_ROOT)
    return f"{__version__}+{commit[:_SHORT] if commit else f'code.{digest_code(_ROOT)[:_SHORT]}'}"


def digest_code(folder: Path) -> str:
    """Return the sha256 of the modules of the packages in a folder, with their names; of those that are there."""
    digest = hashlib.sha256()
    for path in sorted(it for package in _PACKAGES for it in (folder / package).rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()}\n{len(content)}\n".encode() + content)
    return digest.hexdigest()


def find_commit(checkout: Path) -> str | None:
    """Return the commit of a checkout, read from git's files. None: not a checkout, or git has packed the files.

    Uncommitted changes are not seen.
    """
    try:
        git = checkout / ".git"
        if git.is_file():  # a worktree: the file says where its own files are
            git = checkout / git.read_text().removeprefix("gitdir:").strip()
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref:"):
            return head
        name, shared = head.removeprefix("ref:").strip(), git / "commondir"
        store = git / shared.read_text().strip() if shared.exists() else git
        if (store / name).exists():
            return (store / name).read_text().strip()
        for line in (store / "packed-refs").read_text().splitlines():
            if line.endswith(f" {name}"):
                return line.split()[0]
    except OSError:
        pass
    return None
