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
        cpu_ms=statistics.median(one.cpu_ms for one in rounds),
    )


def list_lines(title: str, rows: Sequence[Row]) -> Iterable[str]:
    """Return a case's table in Markdown: the fastest peers first, then how Trainyard compares with the best peer."""
    clients = list(rows[0].by_clients)
    yield f"**{title}**: requests/s (p50 / p99, ms)"
    yield ""
    busiest = clients[-1]
    yield f"| server | {' | '.join(f'c={number}' for number in clients)} | CPU, ms (c={busiest}) | memory, MB |"
    yield "|---" * (len(clients) + 3) + "|"
    for row in sorted(rows, key=lambda row: (not row.is_ours, -row.by_clients[busiest].requests_per_s)):
        cells = [_format(row.by_clients[number]) for number in clients]
        cpu = f"{row.by_clients[busiest].cpu_ms:.2f}"
        yield f"| {row.title} | {' | '.join(cells)} | {cpu} | {row.memory_bytes / 1e6:,.0f} |"
    ours, peers = next((row for row in rows if row.is_ours), None), [row for row in rows if not row.is_ours]
    if ours is None or not peers:
        return
    yield from _list_ratios(ours, peers, clients)


def _list_ratios(ours: Row, peers: Sequence[Row], clients: Sequence[int]) -> Iterable[str]:
    rates, tails = [], []
    for number in clients:
        mine = ours.by_clients[number]
        theirs = [(row.title, row.by_clients[number]) for row in peers if row.by_clients[number].requests_per_s]
        if not theirs:
            rates.append("")
            tails.append("")
            continue
        fastest, most = max(theirs, key=lambda pair: pair[1].requests_per_s)
        calmest, least_late = min(theirs, key=lambda pair: pair[1].p99_ms)
        rates.append(f"{mine.requests_per_s / most.requests_per_s:.2f}x ({fastest})")
        tails.append(f"{mine.p99_ms / least_late.p99_ms:.2f}x ({calmest})")
    least = min(peers, key=lambda row: row.memory_bytes)
    memory = f"{ours.memory_bytes / least.memory_bytes:.2f}x ({least.title})"
    blank = " | ".join([""] * len(clients))
    yield f"| requests/s against the best peer | {' | '.join(rates)} | | |"
    yield f"| p99 against the best peer | {' | '.join(tails)} | | |"
    yield f"| CPU against the thriftiest peer | {blank} | {_compare_cpu(ours, peers, clients[-1])} | |"
    yield f"| memory against the smallest peer | {blank} | | {memory} |"


def _compare_cpu(ours: Row, peers: Sequence[Row], clients: int) -> str:
    mine, spent = ours.by_clients[clients].cpu_ms, [(row.by_clients[clients].cpu_ms, row.title) for row in peers]
    least = min((pair for pair in spent if pair[0]), default=None)
    return "" if least is None else f"{mine / least[0]:.2f}x ({least[1]})"


def _format(measured: Measurement) -> str:
    rate = f"{measured.requests_per_s:,.0f}" if measured.requests_per_s >= 100 else f"{measured.requests_per_s:.1f}"
    errors = f", {measured.errors} errors" if measured.errors else ""
    return f"{rate} ({measured.p50_ms:,.0f} / {measured.p99_ms:,.0f}){errors}"
