"""`trainyard recipes`, `workers`, `queue` and `open`: looks at a yard."""

from __future__ import annotations

import webbrowser
from typing import Annotated, Any

import typer

from trainyard.commands.connecting import FAILED, AsJson, Url, connected, find_yard, print_json, refusal
from trainyard.terminal.rows import Row
from trainyard.terminal.tables import Column, print_table
from trainyard.terminal.terminal import Terminal
from trainyard.terminal.words import say_ago, say_bytes, say_count, say_waiting


def _slots(row: Row) -> str:
    return ", ".join(_slot(slot) for slot in row["slots"])


def _slot(slot: dict[str, Any]) -> str:
    words = [slot["device"], "busy" if slot["busy"] else "free", slot["job"] or "", _usage(slot)]
    return " ".join(word for word in words if word)


def _usage(slot: dict[str, Any]) -> str:
    """Return how busy and how full the device is; nothing where the yard does not tell."""
    used, size, utilisation = (slot.get(name) for name in ("memory_used_bytes", "memory_bytes", "utilisation"))
    parts = [
        "" if utilisation is None else f"{utilisation:.0%}",
        "" if used is None or size is None else f"{say_bytes(used)} of {say_bytes(size)}",
    ]
    told = ", ".join(part for part in parts if part)
    return f"({told})" if told else ""


def _device_names(row: Row) -> str:
    return ", ".join(dict.fromkeys(slot["device_name"] for slot in row["slots"] if slot.get("device_name")))


RECIPES = (
    Column("name", lambda row: row["name"]),
    Column("epochs", lambda row: row["config"].get("epochs"), is_number=True),
    Column("parameters", lambda row: say_count(row["num_parameters"]), is_number=True),
    Column("title", lambda row: row["title"], may_be_cut=True),
)
WORKERS = (
    Column("host", lambda row: row["host"], may_be_cut=True),
    Column("pid", lambda row: row["pid"], is_number=True),
    Column("state", lambda row: row["state"], is_state=True),
    Column("slots", _slots, may_be_cut=True),
    Column("devices", _device_names, from_width=110, may_be_cut=True),
    Column("seen", lambda row: say_ago(row["last_seen_at"]), is_number=True),
    Column("version", lambda row: row["version"], from_width=110, may_be_cut=True),
    Column("id", lambda row: row["id"], from_width=150),
)
QUEUE = (
    Column("#", lambda row: row["position"], is_number=True),
    Column("id", lambda row: row["id"]),
    Column("name", lambda row: row["name"], may_be_cut=True, from_width=110),
    Column("priority", lambda row: row["priority"], is_number=True, from_width=90),
    Column("queued", lambda row: say_ago(row["queued_at"]), is_number=True),
    Column("why", lambda row: say_waiting(row["waiting_for"]), may_be_cut=True),
)


def recipes(
    name: Annotated[str | None, typer.Argument(metavar="RECIPE", help="Show this one in full.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List the recipes: complete sets of training options. Or show one in full."""
    with connected(url) as client:
        found = client.list_recipes() if name is None else client.get_recipe(name)
    if as_json:
        print_json(found)
    elif isinstance(found, list):
        print_table(Terminal(), RECIPES, found, empty="no recipes")
    else:
        _describe_recipe(found)


def _describe_recipe(recipe: Row) -> None:
    tell = Terminal().tell
    tell(f"{recipe['name']}: {recipe['title']}")
    tell(recipe["description"])
    tell(f"Source: {recipe['source']}")
    for option, value in recipe["config"].items():
        tell(f"  {option}={value}")


def workers(
    state: Annotated[
        list[str] | None, typer.Option(help="Only workers in this state, such as live or lost; may be repeated.")
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List the workers, with what each of their slots does, and how busy and how full its device is."""
    with connected(url) as client:
        rows = client.list_workers(state=state)
    if as_json:
        print_json(rows)
        return
    print_table(Terminal(), WORKERS, rows, empty="no workers: `trainyard up` or `trainyard worker` starts one")


def queue(url: Url = None, as_json: AsJson = False) -> None:
    """List your waiting jobs in the order in which they will start, each with what it waits for."""
    with connected(url) as client:
        rows = client.list_queue()
    if as_json:
        print_json(rows)
        return
    print_table(Terminal(), QUEUE, rows, empty="no job waits")


def open_page(url: Url = None, as_json: AsJson = False) -> None:
    """Open the yard's page in a browser, and print its address."""
    address = find_yard(url)[0].rstrip("/") + "/"
    print_json({"url": address}) if as_json else Terminal().tell(address)
    if not webbrowser.open(address):
        raise refusal("no browser can be started here: open the address in one", FAILED)
