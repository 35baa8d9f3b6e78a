"""A child never outlives whoever started it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

CHILD = """
import time
from alexnet_core.child_processes import die_with_parent
die_with_parent({pid})
print(1, flush=True)
time.sleep(60)
"""
PARENT = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1].replace("{pid}", str(os.getpid()))], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.read()
"""


def is_running(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_child_ends_with_its_parent_however_that_ends() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert is_running(pid)
    parent.kill()
    parent.communicate()
    ends_by = time.monotonic() + 30
    while is_running(pid):
        assert time.monotonic() < ends_by
        time.sleep(0.01)


def test_a_child_whose_parent_is_gone_already_ends_at_once() -> None:
    code = CHILD.replace("{pid}", "1")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "the parent process has ended" in done.stderr
