from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from trainyard import __version__
from trainyard.build import build_id, find_commit


def git(folder: Path, *command: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", *identity, *command], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "-q")
    git(folder, "commit", "-q", "--allow-empty", "-m", "first")
    return folder


def test_the_commit_is_what_git_says_it_is(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    assert find_commit(checkout) == commit
    git(checkout, "pack-refs", "--all")
    assert find_commit(checkout) == commit
    git(checkout, "checkout", "-q", "--detach")
    assert find_commit(checkout) == commit


def test_the_commit_of_a_worktree_is_its_own(checkout: Path) -> None:
    git(checkout, "worktree", "add", "-q", "-b", "other", "../other")
    other = checkout.parent / "other"
    git(other, "commit", "-q", "--allow-empty", "-m", "second")
    assert find_commit(other) == git(other, "rev-parse", "HEAD") != find_commit(checkout)


def test_a_folder_without_git_has_no_commit(tmp_path: Path) -> None:
    assert find_commit(tmp_path) is None


def test_the_build_begins_with_the_release() -> None:
    assert build_id().partition("+")[0] == __version__
