"""The questions of the commands, on a terminal: what an answer, Ctrl-C and the end of the input do."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from dataclasses import dataclass

import pytest

from tests.api.served import Served, wait_until

LIMIT_S = 60


@dataclass
class Asked:
    """A command that has asked its question, and the other side of its terminal."""

    process: subprocess.Popen[bytes]
    terminal: int
    printed: str

    def end(self, *, typed: bytes = b"", signal_: signal.Signals | None = None) -> tuple[int, str]:
        """Answer it; returns its exit status, and all that it printed."""
        os.write(self.terminal, typed)
        deadline, signal_at = time.monotonic() + LIMIT_S, 0.0
        while self.process.poll() is None and time.monotonic() < deadline:
            if signal_ is not None and time.monotonic() >= signal_at:
                # what the terminal of a person does at Ctrl-C; one just before Python reads is noticed at the next
                self.process.send_signal(signal_)
                signal_at = time.monotonic() + 5
            self.printed += read(self.terminal)
        return self.process.wait(1), self.printed + read(self.terminal)


def read(terminal: int) -> str:
    """What is printed next, within a moment."""
    ready, _, _ = select.select([terminal], [], [], 0.1)
    try:
        return os.read(terminal, 10_000).decode() if ready else ""
    except OSError:  # nobody has the terminal open any more
        return ""


def ask(served: Served, *args: str, until: str) -> Asked:
    """Run a command on a terminal until it has printed this."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TRAINYARD_URL": served.url, "TERM": "dumb", "COLUMNS": "120"}
    command = [sys.executable, "-m", "trainyard", *args]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    )
    os.close(theirs)
    asked, deadline = Asked(process, ours, ""), time.monotonic() + LIMIT_S
    while until not in asked.printed:
        assert process.poll() is None, asked.printed
        assert time.monotonic() < deadline, asked.printed
        asked.printed += read(ours)
    return asked


def cancelled(served: Served) -> str:
    job: str = served.http.post("/jobs", json={"dataset": "digits"}).json()["id"]
    assert served.http.post(f"/jobs/{job}/cancel").json()["state"] == "cancelled"
    return job


def test_ctrl_c_at_the_question_of_rm_is_130_and_removes_nothing(served: Served) -> None:
    job = cancelled(served)
    status, printed = ask(served, "rm", job, until="Remove").end(signal_=signal.SIGINT)
    assert (status, "Traceback" in printed, "Abort" in printed) == (130, False, False), printed
    assert served.http.get(f"/jobs/{job}").status_code == 200


@pytest.mark.parametrize("typed", [b"\n", b"\x04"], ids=["nothing", "the end"])
def test_who_does_not_say_yes_removes_nothing(served: Served, typed: bytes) -> None:
    job = cancelled(served)
    status, printed = ask(served, "rm", job, until="Remove").end(typed=typed)
    assert (status, "nothing is removed" in printed) == (1, True), printed
    assert served.http.get(f"/jobs/{job}").status_code == 200


def test_a_yes_removes(served: Served) -> None:
    job = cancelled(served)
    status, printed = ask(served, "rm", job, until="Remove").end(typed=b"y\n")
    assert (status, f"removed {job}" in printed) == (0, True), printed


def test_ctrl_c_at_the_question_for_a_key_is_130(served: Served) -> None:
    status, printed = ask(served, "login", served.url, until="Key of").end(signal_=signal.SIGINT)
    assert (status, "Traceback" in printed) == (130, False), printed


def test_a_key_is_not_shown_while_it_is_typed(served: Served) -> None:
    asked = ask(served, "login", served.url, until="Key of")
    wait_until(lambda: not termios.tcgetattr(asked.terminal)[3] & termios.ECHO)  # what is typed before is thrown away
    status, printed = asked.end(typed=b"hidden-key\n")
    assert (status, "hidden-key" in printed) == (0, False), printed


def test_ctrl_c_at_the_question_of_keys_revoke_is_130_and_revokes_nothing(served: Served) -> None:
    key = served.http.post("/keys", json={"owner": "ada"}).json()["id"]
    status, printed = ask(served, "keys", "revoke", key, until="Revoke").end(signal_=signal.SIGINT)
    assert (status, "Traceback" in printed) == (130, False), printed
    assert len(served.http.get("/keys").json()["data"]) == 1
