"""`trainyard completion`: what a shell needs to complete commands and options."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import click
import typer
from click.shell_completion import get_completion_class

PLACES = {
    "bash": "~/.local/share/bash-completion/completions/trainyard",
    "zsh": "a folder of $fpath, as _trainyard",
    "fish": "~/.config/fish/completions/trainyard.fish",
}


class Shell(StrEnum):
    """A shell that can complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")]) -> None:
    """Print the script with which a shell completes commands, options and jobs."""
    typer.echo(f"# put this into {PLACES[shell.value]}")
    program, found = click.get_current_context().find_root().command, get_completion_class(shell.value)
    assert found is not None, "typer has registered the shells"
    typer.echo(found(program, {}, "trainyard", "_TRAINYARD_COMPLETE").source())
