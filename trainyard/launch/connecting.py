"""What the commands that talk to a yard share: its address and key, and how a refusal is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import httpx
import typer
from pydantic import ValidationError

from trainyard.client import ApiError, Client
from trainyard.client.folder_archive import SourceChanged
from trainyard.refused_settings import explain
from trainyard.settings import Settings

FAILED, USAGE = 1, 2

Url = Annotated[
    str | None,
    typer.Option(help="Address of the yard. Default: TRAINYARD_URL, else the host and port of the settings."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@contextmanager
def connected(url: str | None) -> Iterator[Client]:
    """Yield a client for the yard. A refusal is one line on standard error, with exit status 1."""
    try:
        settings = Settings()
    except ValidationError as exc:
        raise refusal(f"settings: {explain(exc)}", USAGE) from exc
    address = url or settings.url or f"http://{settings.host}:{settings.port}"
    key = None if settings.admin_key is None else settings.admin_key.get_secret_value()
    try:
        with Client(address, key=key) as client:
            yield client
    except ApiError as exc:
        raise refusal(str(exc), FAILED) from exc
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as exc:
        raise refusal(f"{address!r} is no address of a yard: write it as http://host:port", USAGE) from exc
    except httpx.TransportError as exc:
        text = f"the yard at {address} does not answer ({exc}): start it with `trainyard up`, or name it with --url"
        raise refusal(text, FAILED) from exc
    except (OSError, ValueError, SourceChanged) as exc:
        raise refusal(str(exc), FAILED) from exc


def refusal(message: str, status: int) -> typer.Exit:
    """Print a message on standard error; returns what ends the command."""
    typer.echo(f"trainyard: {message}", err=True)
    return typer.Exit(status)


def print_json(value: Any) -> None:
    """Print a value for programs."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
