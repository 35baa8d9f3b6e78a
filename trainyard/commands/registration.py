"""Puts the commands that talk to a yard into the program, in the order of its help."""

from __future__ import annotations

from collections.abc import Callable

import typer

from trainyard.commands import (
    alias_commands,
    checkpoint_commands,
    compare_command,
    completion_command,
    dataset_commands,
    export_commands,
    job_commands,
    predict_commands,
    tensorboard_command,
    train_commands,
    yard_commands,
)
from trainyard.commands.access import key_commands, login_commands

#: What stands in the help: for each of its panels the names and what runs.
PANELS: dict[str, dict[str, Callable[..., None] | typer.Typer]] = {
    "Train": {
        "train": train_commands.train,
        "watch": train_commands.watch,
        "datasets": dataset_commands.app,
        "recipes": yard_commands.recipes,
    },
    "Look at jobs and change them": {
        "jobs": job_commands.jobs,
        "show": job_commands.show,
        "logs": job_commands.logs,
        "compare": compare_command.compare,
        "tensorboard": tensorboard_command.tensorboard,
        "export": export_commands.app,
        "pause": job_commands.pause,
        "resume": job_commands.resume,
        "cancel": job_commands.cancel,
        "retry": job_commands.retry,
        "rm": job_commands.rm,
    },
    "Predict and serve": {
        "predict": predict_commands.predict,
        "checkpoints": checkpoint_commands.checkpoints,
        "download": checkpoint_commands.download,
        "aliases": alias_commands.app,
    },
    "Look at a yard": {
        "queue": yard_commands.queue,
        "workers": yard_commands.workers,
        "open": yard_commands.open_page,
        "keys": key_commands.app,
        "login": login_commands.login,
        "logout": login_commands.logout,
        "completion": completion_command.completion,
    },
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for panel, commands in PANELS.items():
        for name, command in commands.items():
            if isinstance(command, typer.Typer):
                app.add_typer(command, name=name, rich_help_panel=panel)
            else:
                app.command(name, rich_help_panel=panel)(command)
