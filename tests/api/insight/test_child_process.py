"""The child: that it has limits, ends with its parent, and that trouble with it is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from alexnet_core.child_processes import TimeLimit
from alexnet_core.insight.protocol import DrawFilters
from api.insight.child_process import ChildEnded, InsightProcess
from tests.api.served import wait_until

REQUEST = DrawFilters(checkpoint=Path("nowhere"), manifest_sha256="a", scale="common")


def build(memory_bytes: int = 3 << 30) -> InsightProcess:
    return InsightProcess(memory_bytes=memory_bytes, max_pixels=1_000_000, threads=1)


@pytest.fixture(scope="module")
def process() -> Iterator[InsightProcess]:
    one = build()
    yield one
    one.close()


def test_it_answers_and_goes_on_after_an_error(process: InsightProcess) -> None:
    answer, blob = process.ask(REQUEST, limit_s=60)
    assert (answer.code, blob) == ("checkpoint_corrupt", b"")
    pid = process.pid
    assert process.ask(REQUEST, limit_s=60)[0].code == "checkpoint_corrupt"
    assert process.pid == pid


def test_it_gives_way_to_everything_else_and_knows_no_secret(
    process: InsightProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    process.close()
    monkeypatch.setenv("TRAINYARD_ADMIN_KEY", "a secret of sixteen characters")
    process.ask(REQUEST, limit_s=60)
    pid = process.pid
    assert pid is not None
    assert os.getpriority(os.PRIO_PROCESS, pid) == 10
    assert b"TRAINYARD" not in Path(f"/proc/{pid}/environ").read_bytes()
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert f"{3 << 30}" in next(line for line in limits.splitlines() if line.startswith("Max data size"))


def test_one_that_takes_too_long_is_killed_and_the_next_request_gets_another(process: InsightProcess) -> None:
    process.ask(REQUEST, limit_s=60)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(ChildEnded) as ended:
        process.ask(REQUEST, limit_s=0.2)
    assert ended.value.too_slow
    assert process.pid is None
    assert process.ask(REQUEST, limit_s=60)[0].code == "checkpoint_corrupt"


def test_a_limit_that_is_over_with_the_answer_does_not_end_the_next_request(
    process: InsightProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timer fires between the answer and its own cancellation."""
    process.ask(REQUEST, limit_s=60)
    pid = process.pid
    late: list[TimeLimit] = []
    cancel = TimeLimit.cancel

    def fire_late(limit: TimeLimit) -> None:
        late.append(limit)
        cancel(limit)
        limit._end()

    monkeypatch.setattr(TimeLimit, "cancel", fire_late)
    for _ in range(2):
        process.ask(REQUEST, limit_s=60)
    assert process.pid == pid
    assert len(late) == 2


def test_one_that_is_killed_is_noticed(process: InsightProcess) -> None:
    process.ask(REQUEST, limit_s=60)
    process.interrupt()
    with pytest.raises(ChildEnded) as ended:
        process.ask(REQUEST, limit_s=60)
    assert not ended.value.too_slow


def test_what_can_not_be_started_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(OSError, match="nowhere"):
        build().ask(REQUEST, limit_s=10)


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    code = f"""
        from pathlib import Path
        from tests.api.insight.test_child_process import REQUEST, build
        process = build()
        process.ask(REQUEST, limit_s=60)
        Path({str(tmp_path / "pid")!r}).write_text(str(process.pid))
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False, timeout=60)
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2])
