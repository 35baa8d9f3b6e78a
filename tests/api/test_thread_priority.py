"""A thread gives way for good, and never asks for a higher priority than it has."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from api.serving.loading import NICENESS
from api.thread_priority import give_way
from tests.api.served import FakeModel, FakeRuntime, Served, png

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux only")
PNG = {"Content-Type": "image/png"}


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_a_thread_gives_way_and_others_do_not() -> None:
    def give_way_twice() -> list[int]:
        give_way(7)
        first = niceness()
        give_way(3)  # without a privilege this would fail, if it were tried
        return [first, niceness()]

    before = niceness()
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(give_way_twice).result() == [max(7, before)] * 2
    assert niceness() == before


def test_the_first_model_is_loaded_at_once_and_the_next_gives_way_to_its_answers(
    serve: Callable[..., Served], runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    load = runtime.load

    def watched(folder: Path) -> FakeModel:
        seen.append(niceness())
        return load(folder)

    monkeypatch.setattr(runtime, "load", watched)
    served = serve()
    job_id = served.add_job()
    for epoch in (1, 2):
        checkpoint = served.add_checkpoint(job_id, epoch)
        answer = served.http.post(f"/predict?model={checkpoint.id}", content=png(), headers=PNG)
        assert answer.status_code == 200
    usual = niceness()
    assert seen == [usual, max(usual, NICENESS)]
