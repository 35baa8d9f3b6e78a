"""Medians, ratios, and the tables of docs/benchmarks.md."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.serving_peers.load import Measurement


@dataclass(frozen=True)
class Row:
    """What a server did in a case."""

    title: str
    is_ours: bool
    by_clients: Mapping[int, Measurement]
    memory_bytes: int


def take_median(rounds: Sequence[Measurement]) -> Measurement:
    """Return the median of each number; errors are added up."""
    return Measurement(
        requests_per_s=statistics.median(one.requests_per_s for one in rounds),
        p50_ms=statistics.median(one.p50_ms for one in rounds),
        p99_ms=statistics.median(one.p99_ms for one in rounds),
        errors=sum(one.errors for one in rounds),
    )


def list_lines(title: str, rows: Sequence[Row]) -> Iterable[str]:
    """Return a case's table in Markdown: the fastest peers first, then how Trainyard compares with the best peer."""
    clients = list(rows[0].by_clients)
    yield f"**{title}**: requests/s (p50 / p99, ms)"
    yield ""
    yield f"| server | {' | '.join(f'c={number}' for number in clients)} | memory, MB |"
    yield "|---" * (len(clients) + 2) + "|"
    busiest = clients[-1]
    for row in sorted(rows, key=lambda row: (not row.is_ours, -row.by_clients[busiest].requests_per_s)):
        cells = [_format(row.by_clients[number]) for number in clients]
        yield f"| {row.title} | {' | '.join(cells)} | {row.memory_bytes / 1e6:,.0f} |"
    ours, peers = next((row for row in rows if row.is_ours), None), [row for row in rows if not row.is_ours]
    if ours is None or not peers:
        return
    yield from _list_ratios(ours, peers, clients)


def _list_ratios(ours: Row, peers: Sequence[Row], clients: Sequence[int]) -> Iterable[str]:
    rates, tails = [], []
    for number in clients:
        mine = ours.by_clients[number]
        fastest = max(peers, key=lambda row: row.by_clients[number].requests_per_s)
        calmest = min(peers, key=lambda row: row.by_clients[number].p99_ms)
        rates.append(f"{_divide(mine.requests_per_s, fastest.by_clients[number].requests_per_s)} ({fastest.title})")
        tails.append(f"{_divide(mine.p99_ms, calmest.by_clients[number].p99_ms)} ({calmest.title})")
    least = min(peers, key=lambda row: row.memory_bytes)
    memory = f"{_divide(ours.memory_bytes, least.memory_bytes)} ({least.title})"
    yield f"| requests/s against the best peer | {' | '.join(rates)} | |"
    yield f"| p99 against the best peer | {' | '.join(tails)} | |"
    yield f"| memory against the smallest peer | {' | '.join([''] * len(clients))} | {memory} |"


def _format(measured: Measurement) -> str:
    rate = f"{measured.requests_per_s:,.0f}" if measured.requests_per_s >= 100 else f"{measured.requests_per_s:.1f}"
    errors = f", {measured.errors} errors" if measured.errors else ""
    return f"{rate} ({measured.p50_ms:,.0f} / {measured.p99_ms:,.0f}){errors}"


def _divide(mine: float, theirs: float) -> str:
    return f"{mine / theirs:.2f}x" if theirs else ""
