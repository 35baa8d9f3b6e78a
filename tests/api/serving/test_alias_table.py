"""Aliases as one of several processes serves them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.api.aliased import predict, put
from tests.api.served import FakeRuntime, Served, wait_until


def test_a_move_by_another_process_is_followed_once_it_is_loaded(
    serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = serve(), serve()
    job_id = one.add_job()
    first, second = (one.add_checkpoint(job_id, epoch, keep_latest=9).id for epoch in (1, 2))
    put(one, {"checkpoint": first}, 201)
    assert predict(other)["model"]["checkpoint"] == first
    wait_until(lambda: other.app.state.services.engine._loader.find(second) is not None)
    put(one, {"checkpoint": second})
    wait_until(lambda: predict(other)["model"]["version"] == 2)
    there = FakeRuntime()
    there.trouble = OSError(24, "Too many open files")
    monkeypatch.setattr(other.app.state.services.engine._loader, "_runtime", there)
    third = one.add_checkpoint(job_id, 3, keep_latest=9).id
    put(one, {"checkpoint": third})
    wait_until(lambda: len(there.loads) >= 3)
    assert predict(other)["model"]["version"] == 2, "what can't be loaded leaves the old one serving"
    there.trouble = None
    wait_until(lambda: predict(other)["model"]["version"] == 3)


def test_aliased_models_are_unloaded_after_all_others(serve: Callable[..., Served]) -> None:
    served = serve(max_loaded_models=3)
    jobs = [served.add_job() for _ in range(5)]
    ids = [served.add_checkpoint(job_id, 1, keep_latest=9).id for job_id in jobs]
    wait_until(lambda: served.http.get("/readyz").json()["model"] == "ok")
    put(served, {"checkpoint": ids[0]}, 201)
    for reference in (ids[1], ids[2], ids[3]):
        predict(served, reference)
    assert ids[0] in served.app.state.services.engine._loader._loaded
