"""Identifies the build: the release, and the commit if the code is in a checkout."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from trainyard import __version__

_ROOT = Path(__file__).resolve().parent.parent
_SHORT = 9  # digits of a commit: enough to be alone in a repository of this size


@cache
def build_id() -> str:
    """Return the release, such as `0.1.0`; in a checkout with the commit, such as `0.1.0+3f9c2a71b`."""
    commit = find_commit(_ROOT)
    return f"{__version__}+{commit[:_SHORT]}" if commit else __version__


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
