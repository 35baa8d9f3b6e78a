from __future__ import annotations

from collections.abc import Callable

from tests.api.aliased import look, predict, put
from tests.api.served import Served, wait_until


def test_counts_outlive_the_process(serve: Callable[..., Served]) -> None:
    served = serve()
    first = served.add_checkpoint(served.add_job(), 1).id
    put(served, {"checkpoint": first}, 201)
    for _ in range(3):
        predict(served)
    served.stop()
    again = serve()
    assert look(again)["counts"]["stable"]["answers"] == 3
    assert predict(again)["model"]["checkpoint"] == first
    wait_until(lambda: look(again)["counts"]["stable"]["answers"] == 4)
