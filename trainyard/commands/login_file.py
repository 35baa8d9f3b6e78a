"""The file in which `trainyard login` keeps the address of a yard and the keys of yards."""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile

import typer


class LoginFileUnreadable(ValueError):
    """The file can't be read; the message says what to do."""


@dataclass
class Logins:
    """Which yard the commands talk to when none is named, and the key of each yard."""

    url: str | None = None
    keys: dict[str, str] = field(default_factory=dict)
    """By the yard's address: a key is never sent to another yard."""

    def key_of(self, url: str) -> str | None:
        """Return the key of a yard, or None."""
        return self.keys.get(url.rstrip("/"))


def login_path() -> Path:
    """Return the file's place: `~/.config/trainyard/config.toml`, or where `XDG_CONFIG_HOME` says."""
    return Path(typer.get_app_dir("trainyard")) / "config.toml"


def read_logins(path: Path) -> Logins:
    """Read the file. One that is not there is empty.

    Raises:
        LoginFileUnreadable: it is not what `trainyard login` writes.
    """
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return Logins()
    except (OSError, ValueError) as exc:
        raise LoginFileUnreadable(f"{path} can't be read ({exc}): mend or remove it") from exc
    url, keys = found.get("url"), found.get("keys", {})
    if not isinstance(url, str | None) or not isinstance(keys, dict):
        raise LoginFileUnreadable(f"{path} is no file of `trainyard login`: remove it and log in again")
    return Logins(url, {str(name): str(key) for name, key in keys.items()})


def write_logins(path: Path, logins: Logins) -> None:
    """Write the file, readable only for this user, whole or not at all."""
    lines = [] if logins.url is None else [f"url = {_quote(logins.url)}"]
    lines += ["", "[keys]", *(f"{_quote(url)} = {_quote(key)}" for url, key in sorted(logins.keys.items()))]
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=".config-", delete=False) as draft:
        draft.write("\n".join(lines).lstrip() + "\n")
    os.replace(draft.name, path)  # a temporary file has mode 0600


def _quote(text: str) -> str:
    """Return a text as TOML writes it: as JSON does, but for DEL."""
    return json.dumps(text).replace("\x7f", "\\u007f")
