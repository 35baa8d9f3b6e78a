"""`trainyard aliases …`: names for checkpoints, which can be moved and rolled back."""

from __future__ import annotations

from typing import Annotated

import typer

from trainyard.commands.connecting import USAGE, AsJson, Url, connected, print_json, refusal
from trainyard.terminal.rows import Row
from trainyard.terminal.tables import Column, print_table
from trainyard.terminal.terminal import Terminal
from trainyard.terminal.words import say_ago, say_percent

app = typer.Typer(no_args_is_help=True, help="List, move and roll back aliases of checkpoints.")

Name = Annotated[str, typer.Argument(metavar="ALIAS", help="Its name.")]


def _canary(row: Row) -> str | None:
    canary = row["canary"]
    return None if canary is None else f"{say_percent(canary['share'])} {canary['checkpoint']}"


COLUMNS = (
    Column("name", lambda row: row["name"], may_be_cut=True),
    Column("version", lambda row: row["version"], is_number=True, from_width=90),
    Column("checkpoint", lambda row: row["checkpoint"]),
    Column("epoch", lambda row: row["epoch"], is_number=True),
    Column("canary", _canary, from_width=150),
    Column("shadow", lambda row: row["shadow"] and row["shadow"]["checkpoint"], from_width=190),
    Column("moved", lambda row: say_ago(row["moved_at"]), is_number=True),
)
MOVES = (
    Column("version", lambda row: row["version"], is_number=True),
    Column("action", lambda row: row["action"]),
    Column("checkpoint", lambda row: row["checkpoint"]),
    Column("canary", lambda row: row["canary"], from_width=120),
    Column("shadow", lambda row: row["shadow"], from_width=150),
    Column("by", lambda row: row["moved_by"], may_be_cut=True, from_width=90),
    Column("at", lambda row: say_ago(row["at"]), is_number=True),
)


@app.command("list")
def list_all(url: Url = None, as_json: AsJson = False) -> None:
    """List your aliases."""
    with connected(url) as client:
        rows = client.list_aliases()
    if as_json:
        print_json(rows)
        return
    print_table(Terminal(), COLUMNS, rows, empty="no aliases yet: `trainyard aliases set NAME CHECKPOINT` makes one")


@app.command()
def show(name: Name, url: Url = None, as_json: AsJson = False) -> None:
    """Show what an alias names, and what each of its sides did since its last move."""
    with connected(url) as client:
        found = client.get_alias(name)
    print_json(found) if as_json else _describe(found)


@app.command("set")
def set_alias(
    name: Name,
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="ckpt_…, or what else predict takes as its --model.")
    ],
    canary: Annotated[
        str | None, typer.Option(help="A second checkpoint, which answers a share of the requests.")
    ] = None,
    share: Annotated[float | None, typer.Option(help="That share: over 0 and under 1.")] = None,
    shadow: Annotated[str | None, typer.Option(help="A checkpoint that is only compared.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Make an alias, or move it to another checkpoint."""
    if (canary is None) != (share is None):
        raise refusal("--canary and --share go together", USAGE)
    with connected(url) as client:
        moved = client.put_alias(name, checkpoint, canary=canary, share=share, shadow=shadow)
    print_json(moved) if as_json else _describe(moved)


@app.command()
def history(name: Name, url: Url = None, as_json: AsJson = False) -> None:
    """List the moves of an alias, newest first."""
    with connected(url) as client:
        rows = client.list_alias_moves(name)
    if as_json:
        print_json(rows)
        return
    print_table(Terminal(), MOVES, rows, empty="no moves")


@app.command()
def rollback(
    name: Name,
    version: Annotated[
        int | None, typer.Option(help="The move to whose checkpoint it goes back. Default: undo the last change.")
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Undo the last change of an alias, or go back to the checkpoint of one of its moves."""
    with connected(url) as client:
        moved = client.roll_back_alias(name, version=version)
    print_json(moved) if as_json else _describe(moved)


@app.command()
def rm(name: Name, url: Url = None, as_json: AsJson = False) -> None:
    """Remove an alias. Its checkpoint stays."""
    with connected(url) as client:
        client.delete_alias(name)
    print_json({"removed": [name]}) if as_json else Terminal().tell(f"removed {name}")


def _describe(alias: Row) -> None:
    tell = Terminal().tell
    tell(f"{alias['name']} (version {alias['version']}) is {alias['checkpoint']}, epoch {alias['epoch']}")
    if alias["canary"]:
        tell(f"canary: {alias['canary']['checkpoint']} answers {say_percent(alias['canary']['share'])} of the requests")
    if alias["shadow"]:
        tell(f"shadow: {alias['shadow']['checkpoint']} is compared")
    for side in ("stable", "canary", "shadow"):
        counts = alias["counts"][side]
        if counts and counts["answers"]:
            p99 = "" if counts["p99_ms"] is None else f", 99 of 100 within {counts['p99_ms']:.1f} ms"
            tell(f"{side}: {counts['answers']:,} answers, {counts['errors']:,} errors{p99}")
