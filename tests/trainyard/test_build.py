from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from trainyard import __version__, build
from trainyard.build import build_id, digest_code, find_commit


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


def test_without_a_checkout_builds_of_different_code_have_different_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "api" / "routes" / "one.py"
    module.parent.mkdir(parents=True)
    module.write_text("A = 1\n")
    first = digest_code(tmp_path)
    (module.parent / "__pycache__").mkdir()
    (module.parent / "__pycache__" / "one.pyc").write_bytes(b"compiled")
    assert digest_code(tmp_path) == first
    module.write_text("A = 2\n")
    second = digest_code(tmp_path)
    module.rename(module.with_name("two.py"))
    assert len({first, second, digest_code(tmp_path)}) == 3
    monkeypatch.setattr(build, "_ROOT", tmp_path)
    build_id.cache_clear()
    try:
        assert build_id() == f"{__version__}+code.{digest_code(tmp_path)[:9]}"
    finally:
        build_id.cache_clear()
