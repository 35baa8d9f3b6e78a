"""What the commands that talk to a yard share: its address and key, and how a refusal is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, Any

import httpx
import typer
from pydantic import ValidationError

from trainyard.client import ApiError, Client, DownloadDamaged
from trainyard.client.answers import Answer
from trainyard.client.folder_archive import SourceChanged
from trainyard.commands.login_file import LoginFileUnreadable, login_path, read_logins
from trainyard.settings import Settings
from trainyard.settings.refused_settings import explain
from trainyard.terminal.command_name import own_name

FAILED, USAGE, DETACHED = 1, 2, 130

Url = Annotated[
    str | None,
    typer.Option(
        help="Address of the yard. Default: TRAINYARD_URL, else what `trainyard login` kept, else host and port."
    ),
]
#: The command that shows what a route does.
_COMMANDS = {
    "GET /aliases": "aliases list",
    "GET /checkpoints": "checkpoints",
    "GET /datasets": "datasets list",
    "GET /jobs": "jobs",
    "GET /recipes": "recipes",
    "GET /workers": "workers",
}
_IS_FOR_PROGRAMS = ContextVar("_IS_FOR_PROGRAMS", default=False)


def _note(value: bool) -> bool:
    _IS_FOR_PROGRAMS.set(value)
    return value


AsJson = Annotated[bool, typer.Option("--json", callback=_note, help="Print JSON for programs.")]


@contextmanager
def connected(url: str | None) -> Iterator[Client]:
    """Yield a client for the yard. A refusal is one line on standard error, with exit status 1."""
    address, key = find_yard(url)
    try:
        with Client(address, key=key or "", retries=1) as client:
            yield client
    except ApiError as exc:
        text = _in_commands(str(exc))
        if exc.status == 401:
            text += f" (`{own_name()} login {address}` keeps a key)"
        raise refusal(text, FAILED, code=exc.code) from exc
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as exc:
        raise refusal(f"{address!r} is no address of a yard: write it as http://host:port", USAGE) from exc
    except httpx.TransportError as exc:
        why, start = str(exc) or type(exc).__name__, f"start it with `{own_name()} up`"
        text = f"the yard at {address} does not answer ({why}): {start}, or name it with --url"
        raise refusal(text, FAILED, code="yard_unreachable") from exc
    except (OSError, ValueError, SourceChanged, DownloadDamaged) as exc:
        raise refusal(str(exc), FAILED) from exc


def find_yard(url: str | None) -> tuple[str, str | None]:
    """Return the address of the yard that is meant, and the key for it."""
    try:
        settings, logins = Settings(), read_logins(login_path())
    except ValidationError as exc:
        raise refusal(f"settings: {explain(exc)}", USAGE) from exc
    except LoginFileUnreadable as exc:
        raise refusal(str(exc), USAGE) from exc
    address = url or settings.url or logins.url or f"http://{settings.host}:{settings.port}"
    for key in (settings.key, settings.admin_key):
        if key is not None and key.get_secret_value():
            return address, key.get_secret_value()
    return address, logins.key_of(address)


def _in_commands(message: str) -> str:
    """Return a refusal of the API with commands in the place of its routes."""
    for route, command in _COMMANDS.items():
        message = message.replace(f"`{route}`", f"`{own_name()} {command}`")
    return message


def refusal(message: str, status: int, *, code: str | None = None) -> typer.Exit:
    """Print a message on standard error, as JSON where JSON is asked for; returns what ends the command."""
    if _IS_FOR_PROGRAMS.get():
        typer.echo(json.dumps({"error": {"code": code, "message": message}}, ensure_ascii=False), err=True)
    else:
        typer.echo(f"trainyard: {message}", err=True)
    return typer.Exit(status)


def print_json(value: Any) -> None:
    """Print a value for programs."""
    typer.echo(to_text(value, indent=2))


def to_text(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON."""
    return json.dumps(value, indent=indent, ensure_ascii=False, default=Answer.to_json)
