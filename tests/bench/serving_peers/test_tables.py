"""Medians, ratios and the Markdown."""

from bench.serving_peers.load import Measurement
from bench.serving_peers.tables import Row, list_lines, take_median


def row(title: str, *rates: float, p99_ms: float, memory_mb: int = 500, errors: int = 0, cpu_ms: float = 1) -> Row:
    measured = {
        clients: Measurement(rate, p50_ms=p99_ms / 2, p99_ms=p99_ms, errors=errors, cpu_ms=cpu_ms)
        for clients, rate in zip((1, 64), rates, strict=True)
    }
    return Row(title, title == "Trainyard", measured, memory_mb * 1_000_000)


def test_each_number_has_its_own_median_and_errors_are_added_up() -> None:
    rounds = [Measurement(10, 5, 9, 1, 0.5), Measurement(30, 1, 7, 0, 2), Measurement(20, 3, 8, 2, 1)]
    assert take_median(rounds) == Measurement(20, 3, 8, 3, 1)


def test_each_cell_is_compared_with_the_peer_that_is_best_in_it() -> None:
    rows = [
        row("Slow", 10, 90, p99_ms=40, memory_mb=400, cpu_ms=3),
        row("Trainyard", 40, 1500, p99_ms=20, memory_mb=300, cpu_ms=0.8),
        row("Fast", 8, 1000, p99_ms=50, memory_mb=900, errors=2, cpu_ms=1.6),
    ]
    assert list(list_lines("Case", rows)) == [
        "**Case**: requests/s (p50 / p99, ms)",
        "",
        "| server | c=1 | c=64 | CPU, ms (c=64) | memory, MB |",
        "|---|---|---|---|---|",
        "| Trainyard | 40.0 (10 / 20) | 1,500 (10 / 20) | 0.80 | 300 |",
        "| Fast | 8.0 (25 / 50), 2 errors | 1,000 (25 / 50), 2 errors | 1.60 | 900 |",
        "| Slow | 10.0 (20 / 40) | 90.0 (20 / 40) | 3.00 | 400 |",
        "| requests/s against the best peer | 4.00x (Slow) | 1.50x (Fast) | | |",
        "| p99 against the best peer | 0.50x (Slow) | 0.50x (Slow) | | |",
        "| CPU against the thriftiest peer |  |  | 0.50x (Fast) | |",
        "| memory against the smallest peer |  |  | | 0.75x (Slow) |",
    ]


def test_peers_alone_have_no_ratios() -> None:
    lines = list(list_lines("Case", [row("Fast", 1, 2, p99_ms=3), row("Slow", 1, 1, p99_ms=3)]))
    assert [line.split(" | ")[0] for line in lines[4:]] == ["| Fast", "| Slow"]


def test_a_peer_that_answered_nothing_is_neither_the_best_nor_divided_by() -> None:
    dead, half = row("Dead", 0, 0, p99_ms=0, cpu_ms=0), row("Half", 0, 10, p99_ms=6)
    *_, rates, tails, cpu, _ = list_lines("Case", [row("Trainyard", 5, 5, p99_ms=3), dead, half])
    assert rates == "| requests/s against the best peer |  | 0.50x (Half) | | |"
    assert tails == "| p99 against the best peer |  | 0.50x (Half) | | |"
    assert cpu == "| CPU against the thriftiest peer |  |  | 1.00x (Half) | |"
