"""`trainyard completion`: what a shell needs to complete commands and options."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from typer._completion_shared import get_completion_script

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
    """Print the script with which a shell completes commands and options."""
    typer.echo(f"# put this into {PLACES[shell.value]}")
    typer.echo(get_completion_script(prog_name="trainyard", complete_var="_TRAINYARD_COMPLETE", shell=shell.value))
