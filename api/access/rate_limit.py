"""Limits how many requests a second each key may send, over all processes of the API.

Many requests share a question to the buckets: what comes during one is asked together afterwards, and a process asks
for some requests ahead, a tenth of a second's worth, which pass at once. A key that was refused is refused from memory
until it may send again, so a client that sends too much costs no question. While nobody can count, requests pass: a
limit that stopped a yard with its queue would do more harm than good.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from api.access.buckets import Buckets, BucketsUnavailable, LocalBuckets, Rate, SharedBuckets
from api.access.gate import METRICS_PATH
from api.access.identity import STRANGER, Identity
from trainyard.access.refusals import RateLimited
from trainyard.settings import Settings

log = logging.getLogger(__name__)

SETTINGS_BUCKET = "settings"  #: of the key of the settings, which has no prefix
RETRY_S = 1.0  #: between two questions while nobody counts
AHEAD_S, AHEAD_OF_BURST = 0.1, 0.1  #: how much of the rate, and at most of the burst, is asked for ahead
KEPT_S = 1.0  #: for which what was asked for ahead stays good; then it is lost


@dataclass
class _Ahead:
    """Requests of a key that were counted before they came."""

    left: int
    until: float


class RateLimiter:
    """Belongs to the event loop of one process."""

    def __init__(self, buckets: Buckets, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._buckets, self._rate, self._clock = buckets, rate, clock
        self._asked: dict[str, list[asyncio.Future[bool]]] = {}
        self._refused_until: dict[str, float] = {}
        self._num_ahead = int(min(rate.per_s * AHEAD_S, rate.burst * AHEAD_OF_BURST))
        self._ahead: dict[str, _Ahead] = {}
        self._asking: asyncio.Task[None] | None = None
        self._is_out, self._retry_at = False, 0.0

    @staticmethod
    def concerns(identity: Identity, path: str) -> bool:
        """Whether a request counts.

        Health, the page's files and whatever else is open to everybody do not count, and neither do the metrics.
        """
        return identity != STRANGER and path != METRICS_PATH

    def passes(self, identity: Identity, path: str) -> bool:
        """Whether a request goes on at once: it does not count, or one was asked for ahead. False: see `admit`."""
        return not self.concerns(identity, path) or self._take_ahead(identity)

    def _take_ahead(self, identity: Identity) -> bool:
        kept = self._ahead.get(_key_of(identity))
        if kept is None:
            return False
        if kept.left == 0 or kept.until < self._clock():
            del self._ahead[_key_of(identity)]
            return False
        kept.left -= 1
        return True

    async def admit(self, identity: Identity) -> RateLimited | None:
        """Count a request. None: it may go on; else what to refuse it with."""
        key = _key_of(identity)
        if (until := self._refused_until.get(key)) is not None:
            if (wait_s := until - self._clock()) > 0:
                return self._refuse(wait_s)
            del self._refused_until[key]
        if self._is_out:
            if self._clock() >= self._retry_at and self._asking is None:
                self._begin()
            return None
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._asked.setdefault(key, []).append(answer)
        if self._asking is None:
            self._begin()
        if await answer:
            return None
        return self._refuse(self._refused_until.get(key, 0.0) - self._clock())

    async def close(self) -> None:
        """End what goes on in the background."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        await self._buckets.close()

    def _begin(self) -> None:
        self._asking = asyncio.get_running_loop().create_task(self._ask())

    async def _ask(self) -> None:
        asked: dict[str, list[asyncio.Future[bool]]] = {}
        try:
            while self._asked or self._is_out:
                asked, self._asked = self._asked, {}
                await self._ask_once(asked)
                if self._is_out:
                    return
        finally:
            self._asking = None
            for answers in [*asked.values(), *self._asked.values()]:  # while nobody counts, or when the process ends
                _settle(answers, len(answers))
            self._asked = {}

    async def _ask_once(self, asked: dict[str, list[asyncio.Future[bool]]]) -> None:
        try:
            wanted = {key: len(answers) + self._num_ahead for key, answers in asked.items()}
            taken = await self._buckets.take(wanted)
        except BucketsUnavailable as exc:
            if not self._is_out:
                log.warning("requests pass without a limit: %s", exc)
            self._is_out, self._retry_at = True, self._clock() + RETRY_S
            return
        if self._is_out:
            log.warning("requests are limited again")
        self._is_out = False
        for key, answers in asked.items():
            if (left := taken[key].granted - len(answers)) > 0:
                self._ahead[key] = _Ahead(left, self._clock() + KEPT_S)
            elif left < 0:
                self._refused_until[key] = self._clock() + taken[key].next_after_s
            _settle(answers, taken[key].granted)

    def _refuse(self, wait_s: float) -> RateLimited:
        per_s, burst = self._rate.per_s, self._rate.burst
        seconds = max(1, math.ceil(wait_s))
        return RateLimited(
            f"this key may send {per_s:g} requests a second, and {burst} at once: wait {seconds} s, then send fewer. "
            "Whoever runs the yard can allow more by TRAINYARD_MAX_REQUESTS_PER_S and TRAINYARD_MAX_REQUEST_BURST",
            retry_after_s=seconds,
        )


def build_rate_limiter(settings: Settings) -> RateLimiter | None:
    """Return what limits an API with these settings. None: nothing does, or there are no keys."""
    if settings.max_requests_per_s is None or settings.admin_key is None:
        return None
    rate = Rate(settings.max_requests_per_s, settings.max_request_burst)
    if settings.redis_url is not None:
        try:
            return RateLimiter(SharedBuckets(settings.redis_url.get_secret_value(), rate), rate)
        except ValueError:
            log.warning("the queue's address is not of redis:// or rediss://: each process limits requests by itself")
    return RateLimiter(LocalBuckets(rate), rate)


def _key_of(identity: Identity) -> str:
    return identity.key_prefix or SETTINGS_BUCKET


def _settle(answers: list[asyncio.Future[bool]], granted: int) -> None:
    for number, answer in enumerate(answers):
        if not answer.done():  # its request was given up
            answer.set_result(number < granted)
