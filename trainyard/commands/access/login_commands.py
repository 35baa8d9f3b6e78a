"""`trainyard login` and `logout`: which yard the commands talk to, and with which key."""

from __future__ import annotations

import sys
from typing import Annotated

import httpx
import typer

from trainyard.client import ApiError, Client
from trainyard.commands.connecting import FAILED, USAGE, AsJson, find_yard, print_json, refusal
from trainyard.commands.login_file import LoginFileUnreadable, Logins, login_path, read_logins, write_logins
from trainyard.terminal.terminal import Terminal

Address = Annotated[
    str | None, typer.Argument(metavar="URL", help="The yard's address. Default: the one that the commands use now.")
]


def login(
    url: Address = None,
    with_key: Annotated[
        bool,
        typer.Option(
            "--key/--no-key", help="Ask for a key, or read it from standard input; --no-key: the yard has none."
        ),
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Keep a yard's address and key, so that every command talks to it. The key is not shown while it is typed."""
    address = (url or find_yard(None)[0]).rstrip("/")
    key = _ask_for_key(address) if with_key else None
    try:
        with Client(address, key=key or "") as client:
            client.list_queue()
    except ApiError as exc:
        raise refusal(f"{address} refuses this key: {exc}" if exc.status == 401 else str(exc), FAILED) from exc
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as exc:
        raise refusal(f"{address!r} is no address of a yard: write it as http://host:port", USAGE) from exc
    except httpx.TransportError as exc:
        raise refusal(f"the yard at {address} does not answer ({exc})", FAILED) from exc
    logins = _read()
    logins.url = address
    logins.keys.pop(address, None)
    if key is not None:
        logins.keys[address] = key
    _write(logins)
    if as_json:
        print_json({"url": address, "file": str(login_path())})
    else:
        Terminal().tell(f"the commands talk to {address} from now on; kept in {login_path()}")


def logout(url: Address = None, as_json: AsJson = False) -> None:
    """Forget a yard's address and key."""
    logins = _read()
    address = (url or logins.url or "").rstrip("/")
    if address not in logins.keys and address != logins.url:
        raise refusal(f"nothing is kept of {address or 'any yard'}", FAILED)
    logins.keys.pop(address, None)
    logins.url = None if logins.url == address else logins.url
    _write(logins)
    print_json({"forgotten": address}) if as_json else Terminal().tell(f"forgot {address}")


def _ask_for_key(address: str) -> str | None:
    """Return the key that is typed or piped in; None for an empty one."""
    question = f"Key of {address} (empty: none)"
    text = Terminal().ask_secret(question) if sys.stdin.isatty() else sys.stdin.readline()
    return text.strip() or None


def _read() -> Logins:
    try:
        return read_logins(login_path())
    except LoginFileUnreadable as exc:
        raise refusal(str(exc), USAGE) from exc


def _write(logins: Logins) -> None:
    try:
        write_logins(login_path(), logins)
    except OSError as exc:
        raise refusal(f"{login_path()} can't be written: {exc}", FAILED) from exc
