"""Counts how much of its rate each key has used: in the queue's server for all API processes, or in one process.

The rule is the generic cell rate algorithm, a token bucket that needs one number for each key: the moment at which the
bucket will be full again. A request moves it on by `1 / per_s` seconds, and is refused where that would be more than
`burst` such steps ahead of now.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, RedisError

ANSWER_WITHIN_S = 0.25  #: of the server, and so long for a connection; a request waits no longer for each
PREFIX = "trainyard:rate:"

#: Redis computes with doubles: microseconds since 1970 fit. It numbers its arrays from 1. `%.0f` writes them in full.
_TAKE = """
local now = redis.call('TIME')
now = now[1] * 1000000 + now[2]
local step, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local answer = {}
for i, key in ipairs(KEYS) do
  local full_at = math.max(tonumber(redis.call('GET', key) or 0), now)
  local room = math.floor((burst * step - (full_at - now)) / step + 0.000001)
  local granted = math.max(0, math.min(tonumber(ARGV[2 + i]), room))
  if granted > 0 then
    full_at = full_at + granted * step
    redis.call('SET', key, string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000))
  end
  answer[2 * i - 1] = granted
  answer[2 * i] = math.max(0, math.ceil(full_at + step - burst * step - now))
end
return answer
"""


class BucketsUnavailable(Exception):
    """Nobody can tell now how much of its rate a key has used."""


@dataclass(frozen=True)
class Rate:
    """How many requests a key may send."""

    per_s: float  #: on average
    burst: int  #: at once


@dataclass(frozen=True)
class Taken:
    """What a key got of what it asked for."""

    granted: int
    next_after_s: float  #: seconds until it will get one more; 0: now


class Buckets(Protocol):
    """Whatever counts."""

    async def take(self, wanted: Mapping[str, int]) -> dict[str, Taken]:
        """Count requests of several keys, as far as they are within the rate.

        Raises:
            BucketsUnavailable: nothing can be counted now.
        """
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...


class LocalBuckets:
    """Counts in this process alone: for an API without a queue's server."""

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._full_at: dict[str, float] = {}

    async def take(self, wanted: Mapping[str, int]) -> dict[str, Taken]:
        """See `Buckets`."""
        now = self._clock()
        self._full_at = {key: at for key, at in self._full_at.items() if at > now}
        return {key: self._take(key, number, now) for key, number in wanted.items()}

    def _take(self, key: str, number: int, now: float) -> Taken:
        step, burst = 1 / self._rate.per_s, self._rate.burst
        full_at = self._full_at.get(key, now)
        granted = max(0, min(number, math.floor((burst * step - (full_at - now)) / step + 1e-6)))
        if granted:
            full_at = self._full_at[key] = full_at + granted * step
        return Taken(granted, max(0.0, full_at + step - burst * step - now))

    async def close(self) -> None:
        """See `Buckets`."""


class SharedBuckets:
    """Counts in a server that speaks Redis' protocol, by one script for any number of keys: one round trip."""

    def __init__(self, url: str, rate: Rate) -> None:
        """Prepare the connection; it is made with the first question.

        Args:
            url: as Celery takes it; of several addresses behind `;` the first is used.
            rate: of each key.

        Raises:
            ValueError: the address is of a kind that this can't use, such as `sentinel://`.
        """
        self._rate = rate
        self._client = redis.asyncio.Redis.from_url(
            url.split(";")[0],
            socket_timeout=ANSWER_WITHIN_S,
            socket_connect_timeout=ANSWER_WITHIN_S,
            retry=Retry(NoBackoff(), 1, supported_errors=(ConnectionError,)),  # the server was started again meanwhile
        )
        self._script = self._client.register_script(_TAKE)

    async def take(self, wanted: Mapping[str, int]) -> dict[str, Taken]:
        """See `Buckets`. If nothing is wanted, the server is asked nevertheless, whether it counts."""
        arguments = [1_000_000 / self._rate.per_s, self._rate.burst, *wanted.values()]
        try:
            answer = await self._script(keys=[PREFIX + key for key in wanted], args=arguments)
        except (RedisError, OSError, TimeoutError) as exc:
            raise BucketsUnavailable(f"the queue's server does not count requests: {exc}") from exc
        pairs = zip(answer[::2], answer[1::2], strict=True)
        return {key: Taken(int(got), int(wait) / 1e6) for key, (got, wait) in zip(wanted, pairs, strict=True)}

    async def close(self) -> None:
        """See `Buckets`."""
        await self._client.aclose()
