"""`trainyard datasets …`: uploads, lists, shows and removes datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from trainyard.client import ApiError, Client
from trainyard.commands.connecting import FAILED, AsJson, Url, connected, print_json
from trainyard.terminal.command_name import own_name
from trainyard.terminal.rows import Row
from trainyard.terminal.tables import Column, print_table
from trainyard.terminal.terminal import Terminal
from trainyard.terminal.words import say_count

app = typer.Typer(no_args_is_help=True, help="Upload, list, show and remove datasets.")

Name = Annotated[str | None, typer.Option(help="The dataset's name. Default: that of the folder or archive.")]
ImagePx = Annotated[int | None, typer.Option(help="Side of the stored squares. Default: by the images' sizes.")]
NoFlip = Annotated[bool, typer.Option("--no-flip", help="Never mirror the images: a mirrored one shows another class.")]
Reference = Annotated[str, typer.Argument(metavar="DATASET", help="Its id or name.")]


COLUMNS = (
    Column("id", lambda row: row["id"]),
    Column("name", lambda row: row["name"], may_be_cut=True),
    Column("state", lambda row: row["state"], is_state=True),
    Column("classes", lambda row: row["num_classes"], is_number=True),
    Column("images", lambda row: say_count(_num_images(row)), is_number=True),
)


@app.command()
def push(
    source: Annotated[Path, typer.Argument(help="A folder with a folder for each class, or an archive of one.")],
    name: Name = None,
    image_px: ImagePx = None,
    no_flip: NoFlip = False,
    validation_fraction: Annotated[
        float | None, typer.Option(help="Share of each class to validate on, if the images come without such a split.")
    ] = None,
    test_fraction: Annotated[
        float | None, typer.Option(help="Share of the rest to test on, if the images come without such a split.")
    ] = None,
    split_seed: Annotated[int | None, typer.Option(help="Another seed holds other images back.")] = None,
    parent: Annotated[
        str | None, typer.Option(help="The dataset that this is a new version of; the report says what differs.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Whether to wait until it is checked.")] = True,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Upload a folder or archive as a dataset. An upload that was cut goes on where it stopped."""
    terminal = Terminal()
    with connected(url) as client:
        options = {
            "validation_fraction": validation_fraction,
            "test_fraction": test_fraction,
            "split_seed": split_seed,
            "parent_id": parent,
        }
        dataset = push_source(
            client, terminal, source, name=name, image_px=image_px, flip_safe=False if no_flip else None, **options
        )
        if wait:
            dataset = wait_for_dataset(client, terminal, dataset)
    print_json(dataset) if as_json else _describe(terminal, dataset)
    if dataset["state"] == "rejected":
        raise typer.Exit(FAILED)


def find_dataset(client: Client, source: str) -> Row:
    """Return the dataset with this id or name; where there is none, no folder and no file is meant either.

    Raises:
        FileNotFoundError: there is none.
    """
    try:
        return client.get_dataset(source)
    except ApiError as exc:
        if exc.status != 404:
            raise
        raise FileNotFoundError(say_missing(source)) from exc


def say_missing(source: str) -> str:
    """Return what is said of a source that is neither on this machine nor in the yard."""
    if {"/", "\\"} & set(source):
        return f"there is no folder and no file {source}"
    lists = f"`{own_name()} datasets list`"
    return f"there is no folder and no file {source} here, and no dataset of this name in the yard ({lists})"


def push_source(client: Client, terminal: Terminal, source: Path, **options: Any) -> Row:
    """Upload a folder or archive, and return the dataset that is made of it."""
    if not source.exists():
        raise FileNotFoundError(f"there is no folder and no file {source}")
    with terminal.uploading(str(source)) as tell:
        return client.create_dataset(source, on_sent=tell, **options)


def wait_for_dataset(client: Client, terminal: Terminal, dataset: Row) -> Row:
    """Wait until a dataset is ready or rejected, showing how far it is."""
    with terminal.validating(dataset["name"]) as show:
        return client.wait_for_dataset(dataset["id"], on_change=show)


@app.command("list")
def list_all(url: Url = None, as_json: AsJson = False) -> None:
    """List the newest hundred datasets, including the built-in ones."""
    with connected(url) as client:
        rows = client.list_datasets()
    if as_json:
        print_json(rows)
        return
    print_table(Terminal(), COLUMNS, rows, empty="no datasets")


@app.command()
def show(dataset: Reference, url: Url = None, as_json: AsJson = False) -> None:
    """Show a dataset: its state, its classes, and what was found in it."""
    with connected(url) as client:
        found = client.get_dataset(dataset)
    print_json(found) if as_json else _describe(Terminal(), found)


@app.command()
def rm(dataset: Reference, url: Url = None, as_json: AsJson = False) -> None:
    """Remove a dataset that no unfinished job needs."""
    with connected(url) as client:
        client.delete_dataset(dataset)
    print_json({"removed": [dataset]}) if as_json else Terminal().tell(f"removed {dataset}")


def _describe(terminal: Terminal, dataset: Row) -> None:
    say = terminal.tell
    say(f"{dataset['name']} ({dataset['id']}) is {dataset['state']}")
    if dataset["error"]:
        say(dataset["error"]["message"])
    if dataset["num_classes"] is not None:
        say(f"{dataset['num_classes']} classes, {_text(_num_images(dataset))} images of {dataset['image_px']} px")
    for finding in (dataset["report"] or {}).get("findings", []):
        say(f"- {finding['message']} {finding['advice']}")


def _num_images(dataset: Row) -> int | None:
    counts = [dataset[name] for name in ("num_train", "num_val", "num_test")]
    return None if all(count is None for count in counts) else sum(count or 0 for count in counts)


def _text(value: object) -> str:
    return "" if value is None else str(value)
