from __future__ import annotations

import threading

import pytest

from trainyard.artifacts.naming.alias_counts import CountKey, Counts, add_counts, latency_class, read_counts
from trainyard.database.connection import Database
from trainyard.errors import Conflict
from trainyard.states import Side

KEY = CountKey("local", "production", 3, Side.CANARY)


def counted(*latencies_ms: float) -> Counts:
    counts = Counts()
    for latency_ms in latencies_ms:
        counts.add_answer(latency_ms)
    return counts


@pytest.mark.parametrize("latency_ms", [0.0, 0.01, 0.4, 1.0, 1.05, 7.3, 120.0, 99_999.0])
def test_a_quantile_is_at_most_ten_percent_too_high(latency_ms: float) -> None:
    shown = counted(latency_ms).quantile_ms(0.5)
    assert shown is not None
    latency_ms = max(latency_ms, 0.01)
    assert latency_ms - 0.001 <= shown <= 1.1 * latency_ms + 0.001


def test_quantiles_are_of_all_answers() -> None:
    counts = counted(*range(1, 101))
    assert counts.quantile_ms(0.5) == pytest.approx(50, rel=0.1)
    assert counts.quantile_ms(0.99) == pytest.approx(99, rel=0.1)
    assert Counts().quantile_ms(0.5) is None
    assert latency_class(0.5) < latency_class(1.0) == 0 < latency_class(1.01)


def test_what_processes_count_at_once_adds_up(database: Database) -> None:
    def add() -> None:
        for _ in range(10):
            while True:
                try:
                    with database.writing() as session:
                        add_counts(session, {KEY: counted(1.0, 50.0), KEY._replace(side=Side.STABLE): Counts(errors=1)})
                    break
                except Conflict:  # both began the count
                    continue

    threads = [threading.Thread(target=add) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.reading() as session:
        read = read_counts(session, "local", [("production", 3), ("production", 2), ("other", 3)])
    canary = read["production", 3][Side.CANARY]
    assert (canary.answers, canary.errors, canary.latencies.total()) == (60, 0, 60)
    assert read["production", 3][Side.STABLE].errors == 30
    assert read["production", 2] == read["other", 3] == {}
