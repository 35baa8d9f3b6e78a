"""`trainyard jobs`, `show`, `logs`, `pause`, `resume`, `cancel`, `retry`, `rm`: looks at jobs and changes them."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any

import typer
from rich.table import Table

from trainyard.client import Client
from trainyard.commands.confirmation import Yes, ask_before
from trainyard.commands.connecting import DETACHED, USAGE, AsJson, Url, connected, print_json, refusal
from trainyard.commands.job_references import JOB_HELP, find_job
from trainyard.commands.train_commands import Options, read_options
from trainyard.terminal.command_name import own_name
from trainyard.terminal.rows import Row
from trainyard.terminal.sparkline import draw_sparkline
from trainyard.terminal.tables import Column, print_table
from trainyard.terminal.terminal import Terminal
from trainyard.terminal.training_display import logarithms
from trainyard.terminal.words import (
    say_ago,
    say_between,
    say_count,
    say_duration,
    say_loss,
    say_percent,
    say_state,
    say_waiting,
)

Job = Annotated[str, typer.Argument(metavar="JOB", help=JOB_HELP)]
Jobs = Annotated[list[str], typer.Argument(metavar="JOB...", help=JOB_HELP)]


def _epochs(job: Row) -> str:
    progress = job["progress"]
    return f"{progress['epoch']}/{progress['epochs']}" if progress["epochs"] else ""


def _best(job: Row) -> float | None:
    return (job["best"] or job["metrics"] or {}).get("val_top1")


COLUMNS = (
    Column("id", lambda job: job["id"]),
    Column("name", lambda job: job["name"], may_be_cut=True, from_width=76),
    Column("state", lambda job: job["state"], is_state=True),
    Column("dataset", lambda job: job["dataset_name"], may_be_cut=True, from_width=110),
    Column("recipe", lambda job: job["recipe"], may_be_cut=True, from_width=100),
    Column("epoch", _epochs, is_number=True),
    Column("validation", lambda job: say_percent(_best(job)), is_number=True),
    Column("test", lambda job: say_percent((job["test"] or {}).get("top1")), is_number=True, from_width=90),
    Column("created", lambda job: say_ago(job["created_at"]), is_number=True),
)


def jobs(
    state: Annotated[
        list[str] | None, typer.Option(help="Only jobs in this state, such as running; may be repeated.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Only jobs on this dataset, by id or name.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Only jobs of this recipe.")] = None,
    search: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Only jobs whose id, name or dataset's name contains it.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most jobs to list.")] = 20,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List your jobs, newest first."""
    with connected(url) as client:
        rows = list(islice(client.iter_jobs(state=state, dataset=dataset, recipe=recipe, text=search), limit))
        names = {} if as_json else {each["id"]: each["name"] for each in client.list_datasets()}
    if as_json:
        print_json(rows)
        return
    empty = (
        "no such jobs" if state or dataset or recipe or search else "no jobs yet: `trainyard train FOLDER` begins one"
    )
    named = [dict(row) | {"dataset_name": names.get(row["dataset"], row["dataset"])} for row in rows]
    print_table(Terminal(), COLUMNS, named, empty=empty)


def show(job: Job = "last", url: Url = None, as_json: AsJson = False) -> None:
    """Show a job: its state, its curves, its results."""
    with connected(url) as client:
        found = find_job(client, job)
        series = client.get_metrics(found["id"])
    if as_json:
        print_json(found)
        return
    terminal = Terminal()
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _describe(found, series, terminal.out.encoding):
        table.add_row(name, value)
    terminal.out.print(table, soft_wrap=False)


def _describe(job: Row, series: Row, encoding: str) -> list[tuple[str, str]]:
    """Return the lines of a job: a name and a text with rich's markup."""
    progress, best, test = job["progress"], job["best"], job["test"]
    lines = [
        ("job", job["id"]),
        ("name", _plain(job["name"])),
        ("state", say_state(job["state"]) + (f"  {say_waiting(job['waiting_for'])}" if job["waiting_for"] else "")),
        ("error", f"[red]{_plain(job['error']['message'])}[/]" if job["error"] else ""),
        ("dataset", _plain(job["dataset"])),
        ("recipe", _plain(job["recipe"])),
        ("created", say_ago(job["created_at"])),
        ("took", say_between(job["started_at"], job["finished_at"])),
        ("epoch", _epochs(job) + (f"  step {progress['step']}/{progress['steps']}" if progress["steps"] else "")),
        ("speed", f"{say_count(progress['images_per_s'])} images/s" if progress["images_per_s"] else ""),
        ("remaining", say_duration(progress["eta_s"]) if job["state"] == "running" else ""),
    ]
    for name, field, say in (("loss", "train_loss", say_loss), ("validation", "val_top1", say_percent)):
        values = [point.get(field) for point in series["by_epoch"]]
        known = [value for value in values if value is not None]
        if known:
            curve = draw_sparkline(logarithms(known) if name == "loss" else known, 40, encoding=encoding)
            lines.append((name, f"{curve}  {say(known[-1])}"))
    if best and best.get("val_top1") is not None:
        lines.append(("best", f"{say_percent(best['val_top1'])} of the validation images, epoch {best['epoch']}"))
    if test:
        lines.append(("test", f"{say_percent(test['top1'])} of {test['num_images']:,} images"))
    lines.append(("checkpoint", job["latest_checkpoint"] or ""))
    return [(name, value) for name, value in lines if value]


def _plain(text: str | None) -> str:
    """Return a text in which rich finds no markup."""
    return (text or "").replace("[", "\\[")


def logs(
    job: Job = "last",
    tail: Annotated[int, typer.Option(min=1, max=10_000, metavar="LINES", help="Most lines, from the end.")] = 200,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print the whole log, and go on until the job has ended.")
    ] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Print what the job's trainers wrote."""
    if follow and as_json:
        raise refusal("--follow and --json exclude each other", USAGE)
    with connected(url) as client:
        found = find_job(client, job)
        if follow:
            _follow(client, found["id"])
            return
        text = client.get_logs(found["id"], tail=tail)
    if as_json:
        print_json({"job": found["id"], "lines": text.splitlines()})
    elif not text:
        Terminal().say(f"the trainers of job {found['id']} have written nothing yet")
    else:
        typer.echo(text, nl=False)


def _follow(client: Client, job_id: str) -> None:
    try:
        for piece in client.iter_log(job_id, follow=True):
            typer.echo(piece, nl=False)
    except KeyboardInterrupt:
        raise refusal(f"job {job_id} goes on; `{own_name()} logs -f {job_id}` shows its log again", DETACHED) from None


def pause(jobs: Jobs, url: Url = None, as_json: AsJson = False) -> None:
    """Pause jobs: each writes a checkpoint and frees its slot."""
    _change(jobs, url, lambda client, job: client.pause_job(job), as_json=as_json)


def resume(jobs: Jobs, url: Url = None, as_json: AsJson = False) -> None:
    """Put paused jobs back into the queue."""
    _change(jobs, url, lambda client, job: client.resume_job(job), as_json=as_json)


def cancel(jobs: Jobs, url: Url = None, as_json: AsJson = False) -> None:
    """Stop jobs for good. Their checkpoints stay."""
    _change(jobs, url, lambda client, job: client.cancel_job(job), as_json=as_json)


def retry(
    job: Job,
    origin: Annotated[
        str, typer.Option("--from", help="latest (its last checkpoint), start, or a checkpoint of it: ckpt_….")
    ] = "latest",
    options: Options = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Train a job that has ended again, as a new job."""
    overrides = read_options(options or [])
    with connected(url) as client:
        made = client.retry_job(find_job(client, job)["id"], origin=origin, overrides=overrides)
    if as_json:
        print_json(made)
    else:
        Terminal().tell(made["id"])


def rm(
    jobs: Jobs,
    yes: Yes = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Remove jobs that have ended, with their checkpoints. Asks first, on a terminal."""
    terminal = Terminal()
    with connected(url) as client:
        found = [find_job(client, job) for job in jobs]
        names = ", ".join(job["name"] or job["id"] for job in found)
        ask_before(terminal, f"Remove {names} with all checkpoints?", is_sure=yes, refused="nothing is removed")
        for job in found:
            client.delete_job(job["id"])
            if not as_json:
                terminal.tell(f"removed {job['id']}")
    if as_json:
        print_json({"removed": [job["id"] for job in found]})


def _change(references: list[str], url: str | None, change: Any, *, as_json: bool) -> None:
    terminal, changed = Terminal(), []
    with connected(url) as client:
        for job in [find_job(client, reference) for reference in references]:
            changed.append(change(client, job["id"]))
            if not as_json:
                terminal.out.print(f"{say_state(changed[-1]['state'])} {job['id']}")
    if as_json:
        print_json(changed)
