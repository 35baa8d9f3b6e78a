"""Ctrl-C in the first moment of a command, while its modules are loaded."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
#: A command that gets SIGINT when its modules begin to be loaded.
INTERRUPTED = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, *_):
        if name == "trainyard.launch.cli":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
sys.argv = ["trainyard", "version"]
signal.signal(signal.SIGINT, HANDLER)
from trainyard.launch.program import main
main()
"""


@pytest.mark.parametrize(
    ("handler", "status", "printed"),
    [("signal.default_int_handler", 128 + signal.SIGINT, ""), ("signal.SIG_IGN", 0, "0.1.0\n")],
)
def test_it_ends_without_a_word_unless_it_is_ignored(handler: str, status: int, printed: str) -> None:
    code = INTERRUPTED.replace("HANDLER", handler)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (status, printed, "")
