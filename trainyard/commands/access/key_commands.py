"""`trainyard keys …`: makes, lists and revokes the keys of a yard."""

from __future__ import annotations

from enum import StrEnum
from itertools import islice
from typing import Annotated

import typer

from trainyard.client import Client
from trainyard.commands.confirmation import Yes, ask_before
from trainyard.commands.connecting import FAILED, USAGE, AsJson, Url, connected, find_yard, print_json, refusal
from trainyard.terminal.command_name import own_name
from trainyard.terminal.rows import Row
from trainyard.terminal.tables import Column, print_table
from trainyard.terminal.terminal import Terminal
from trainyard.terminal.words import say_ago

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke keys. Needs a key with the scope admin.")
Keys = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY...", help="The id of a key, its beginning (ty_…), or its name if it is its only one."),
]


class Scope(StrEnum):
    """What a key may do, as the API names it."""

    READ = "read"
    TRAIN = "train"
    PREDICT = "predict"
    ADMIN = "admin"


COLUMNS = (
    Column("id", lambda key: key["id"]),
    Column("begins with", lambda key: key["prefix"], from_width=110),
    Column("owner", lambda key: key["owner"], may_be_cut=True),
    Column("name", lambda key: key["name"], may_be_cut=True),
    Column("scopes", lambda key: " ".join(key["scopes"]), from_width=90),
    Column(
        "used", lambda key: "never" if key["last_used_at"] is None else say_ago(key["last_used_at"]), is_number=True
    ),
    Column("created", lambda key: say_ago(key["created_at"]), is_number=True, from_width=130),
)


@app.command()
def create(
    owner: Annotated[
        str | None, typer.Option(help="Who the key acts for: sees only this owner's work. Default: your own owner.")
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="TEXT", help="What it is for, such as: laptop of Ada.")] = None,
    scope: Annotated[
        list[Scope] | None, typer.Option(help="What it may do; may be repeated. Default: read, train and predict.")
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print its text, which is shown only this once."""
    with connected(url) as client:
        made = client.create_key(
            owner=owner, name=name, scopes=None if scope is None else [each.value for each in scope]
        )
        is_asked_for = client.get_yard().needs_key
    if as_json:
        print_json(made)
        return
    terminal = Terminal()
    terminal.tell(made["key"])
    scopes = ", ".join(made["scopes"])
    terminal.say(f"{made['id']} acts for {made['owner']} and may: {scopes}. Its text is shown only now.")
    if not is_asked_for:
        terminal.say(
            "This yard asks for no key yet: start it with TRAINYARD_ADMIN_KEY, or everybody is its administrator."
        )


@app.command("list")
def list_all(
    owner: Annotated[str | None, typer.Option(help="Only keys of this owner.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most keys to list.")] = 100,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List the keys of all owners, newest first, without their texts."""
    with connected(url) as client:
        rows = list(islice((key for key in client.iter_keys() if owner in (None, key["owner"])), limit))
    if as_json:
        print_json(rows)
        return
    empty = (
        f"no keys yet: `{own_name()} keys create --owner NAME` makes one" if owner is None else f"no keys of {owner}"
    )
    print_table(Terminal(), COLUMNS, rows, empty=empty)


@app.command()
def revoke(
    keys: Keys = None,
    owner: Annotated[str | None, typer.Option(help="All keys of this owner.")] = None,
    yes: Yes = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Revoke keys: within a second the yard refuses them. Their owners' work stays. Asks first, on a terminal."""
    if bool(keys) == (owner is not None):
        raise refusal("name the keys, or their owner with --owner", USAGE)
    terminal = Terminal()
    with connected(url) as client:
        found = _find_keys(client, keys) if keys else _find_keys_of(client, str(owner), find_yard(url)[1])
        names = ", ".join(f"{key['name'] or key['id']} of {key['owner']}" for key in found)
        ask_before(terminal, f"Revoke {names}?", is_sure=yes, refused="nothing is revoked")
        for key in found:
            client.revoke_key(key["id"])
            if not as_json:
                terminal.tell(f"revoked {key['id']} of {key['owner']}")
    if as_json:
        print_json({"revoked": [key["id"] for key in found]})


def _find_keys(client: Client, references: list[str]) -> list[Row]:
    """Return the keys that are meant, each once; all of them are there before one is revoked."""
    all_keys = list(client.iter_keys())
    found: dict[str, Row] = {}
    for reference in references:
        text = reference.strip()
        named = [key for key in all_keys if text == key["id"] or _begins_with(text, key["prefix"])]
        named = named or [key for key in all_keys if text == key["name"]]
        if not named:
            raise refusal(f"there is no key {_shorten(text)}: `{own_name()} keys list` lists them", FAILED)
        if len(named) > 1:
            ids = ", ".join(key["id"] for key in named[:5])
            raise refusal(f"{len(named)} keys have the name {text}: name one by its id ({ids})", FAILED)
        found[named[0]["id"]] = named[0]
    return list(found.values())


def _find_keys_of(client: Client, owner: str, used: str | None) -> list[Row]:
    """Return all keys of an owner. The one that this command uses is the last, as it can do nothing after that."""
    found = [key for key in client.iter_keys() if key["owner"] == owner]
    if not found:
        raise refusal(f"{owner} has no keys: `{own_name()} keys list` lists all", FAILED)
    return sorted(found, key=lambda key: _begins_with(used or "", key["prefix"]))


def _begins_with(text: str, prefix: str) -> bool:
    return text == prefix or text.startswith(f"{prefix}_")


def _shorten(text: str) -> str:
    """Return a reference as it may be printed: never the whole text of a key."""
    return text if len(text) <= 40 else f"{text[:15]}…"
