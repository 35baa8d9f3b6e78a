from __future__ import annotations

import asyncio

import pytest
from fastapi import Request

from api.http.client_patience import count_left_ms
from api.http.connections import ARRIVED_AT
from trainyard.serving_errors import DeadlineExceeded


def test_the_time_that_a_request_waited_counts_for_its_deadline() -> None:
    async def left_of(timeout_ms: int | None, waited_s: float) -> float | None:
        arrived_at = asyncio.get_running_loop().time() - waited_s
        return count_left_ms(Request({"type": "http", ARRIVED_AT: arrived_at}), timeout_ms)

    left_ms = asyncio.run(left_of(5000, 2))
    assert left_ms is not None
    assert 2000 < left_ms <= 3000
    assert asyncio.run(left_of(None, 600)) is None
    with pytest.raises(DeadlineExceeded):
        asyncio.run(left_of(5000, 6))
