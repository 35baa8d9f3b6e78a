"""Measures what the limit of requests by key costs a prediction.

    .venv/bin/python -m bench.rate_limit [--seconds 5] [--rounds 4] [--clients 1 16]

Starts two yards with a key, each with a job of an epoch on digits; one also limits requests, at a rate that nobody
reaches. Each round asks one for predictions and then the other, the order changing from round to round. Prints for each
number of clients the predictions a second of both, milliseconds, and the median of the rounds' ratios. What one yard
does while the other is asked (heartbeats, looks at the queue) is the same for both.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Iterator
from contextlib import contextmanager

from bench.overload import Tally, ask, build_request
from bench.serving import predicting_api

KEY = "bench-0123456789abcdef"
LIMIT = {"TRAINYARD_MAX_REQUESTS_PER_S": "5000", "TRAINYARD_MAX_REQUEST_BURST": "200"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement (default 5)")
    parser.add_argument("--rounds", type=int, default=4, help="(default 4)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16], help="that ask at once (default 1 and 16)")
    given = parser.parse_args()
    request = with_key(build_request())
    with (
        environment(TRAINYARD_ADMIN_KEY=KEY, TRAINYARD_KEY=KEY),
        predicting_api() as (_, free),
        environment(**LIMIT),
        predicting_api() as (_, limited),
    ):
        for port in (free, limited):
            ask(port, request, 3, clients=4, per_s=None)  # what is made at the first use is made
        for clients in given.clients:
            measure(free, limited, request, clients, given.rounds, given.seconds)


def measure(free: int, limited: int, request: bytes, clients: int, rounds: int, seconds: float) -> None:
    """Ask both yards in turn, and print what came."""
    found: dict[int, list[Tally]] = {free: [], limited: []}
    for number in range(rounds):
        for port in (free, limited) if number % 2 == 0 else (limited, free):
            tally = ask(port, request, seconds, clients=clients, per_s=None)
            assert not tally.refused_ms, "a prediction was refused"
            assert not tally.unanswered, "a prediction was not answered"
            found[port].append(tally)
    for name, port in (("no limit", free), ("a limit", limited)):
        waits = [wait for tally in found[port] for wait in tally.good_ms]
        per_s = statistics.median(tally.good / seconds for tally in found[port])
        cuts = statistics.quantiles(waits, n=100)
        print(f"{clients:3} clients, {name:8} {per_s:7.0f}/s  p50 {cuts[49]:6.2f}  p99 {cuts[98]:6.2f} ms")
    ratios = [with_it.good / without.good for without, with_it in zip(found[free], found[limited], strict=True)]
    print(f"{clients:3} clients, ratio of predictions a second: {statistics.median(ratios):.3f} ({min(ratios):.3f} to "
          f"{max(ratios):.3f})")  # fmt: skip


def with_key(request: bytes) -> bytes:
    """Return a request that sends the key."""
    line, _, rest = request.partition(b"\r\n")
    return line + f"\r\nAuthorization: Bearer {KEY}\r\n".encode() + rest


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Set variables of the environment for a block."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


if __name__ == "__main__":
    main()
