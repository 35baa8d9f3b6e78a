"""`trainyard compare`: what differs between jobs, in their options and in their results."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from trainyard.commands.connecting import USAGE, AsJson, Url, connected, print_json, refusal
from trainyard.commands.job_references import JOB_HELP, find_job
from trainyard.terminal.rows import Row
from trainyard.terminal.sparkline import draw_sparkline
from trainyard.terminal.terminal import Terminal
from trainyard.terminal.training_display import logarithms
from trainyard.terminal.words import STYLES, say_between, say_count, say_loss, say_percent

MOST = 20


def compare(
    jobs: Annotated[list[str], typer.Argument(metavar="JOB...", help=JOB_HELP + " Two to twenty of them.")],
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Compare jobs: the options in which they differ, their curves and their results."""
    if not 2 <= len(jobs) <= MOST:
        raise refusal(f"compare takes 2 to {MOST} jobs", USAGE)
    with connected(url) as client:
        found = [find_job(client, job) for job in jobs]
        series = [client.get_metrics(job["id"]) for job in found]
    differing = find_differences(found)
    if as_json:
        print_json({"jobs": found, "differences": differing})
        return
    terminal = Terminal()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="dim", no_wrap=True)
    for _ in found:
        table.add_column(overflow="fold")
    for name, cells in _rows(found, series, differing, terminal.out.encoding):
        table.add_row(name, *cells)
    terminal.print_wide(table)


def find_differences(jobs: list[Any]) -> dict[str, list[Any]]:
    """Return the training options in which jobs differ, each with every job's value; None: it has no such option."""
    configs = [
        {"recipe": job["recipe"], "dataset": job["dataset"], "seed": job["seed"], **job["config"]} for job in jobs
    ]
    names = dict.fromkeys(name for config in configs for name in config)
    values = {name: [config.get(name) for config in configs] for name in names}
    return {name: row for name, row in values.items() if any(value != row[0] for value in row)}


def _rows(
    jobs: list[Any], series: list[Any], differing: dict[str, list[Any]], encoding: str
) -> list[tuple[str, list[Text]]]:
    """Return the lines of the table: a name, and a cell for each job."""
    best = [job["best"] or {} for job in jobs]
    rows = [
        ("job", [Text(job["name"] or job["id"], "bold") for job in jobs]),
        ("id", [Text(job["id"]) for job in jobs] if any(job["name"] for job in jobs) else []),
        ("state", [Text(job["state"], STYLES.get(job["state"], "")) for job in jobs]),
        *((name, [Text(str(value)) for value in values]) for name, values in differing.items()),
        ("loss", [_curve(each, "train_loss", encoding) for each in series]),
        ("", [Text(say_loss(_last(each, "train_loss"))) for each in series]),
        ("validation", [_curve(each, "val_top1", encoding) for each in series]),
        ("best", _mark_highest([each.get("val_top1") for each in best])),
        ("of epoch", [Text(str(each.get("epoch") or "")) for each in best]),
        ("test", _mark_highest([(job["test"] or {}).get("top1") for job in jobs])),
        ("took", [Text(say_between(job["started_at"], job["finished_at"])) for job in jobs]),
        ("images/s", [Text(say_count(job["progress"]["images_per_s"])) for job in jobs]),
    ]
    return [(name, cells) for name, cells in rows if any(cell.plain for cell in cells)]


def _curve(series: Row, field: str, encoding: str) -> Text:
    values = [point.get(field) for point in series["by_epoch"]]
    if field == "train_loss":
        values = logarithms(values)
    return Text(draw_sparkline(values, 24, encoding=encoding), "magenta" if field == "train_loss" else "green")


def _last(series: Row, field: str) -> float | None:
    return next((point[field] for point in reversed(series["by_epoch"]) if point.get(field) is not None), None)


def _mark_highest(values: list[float | None]) -> list[Text]:
    highest = max((value for value in values if value is not None), default=None)
    return [Text(say_percent(value), "bold green" if value == highest is not None else "") for value in values]
