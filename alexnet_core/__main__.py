"""The command line: `python -m alexnet_core COMMAND`. Each command is a module of `commands`."""

from __future__ import annotations

import logging
import signal
import sys

import typer

from alexnet_core.commands.evaluate import evaluate
from alexnet_core.commands.export import ClassesUpToTheNextOption, export, import_keras
from alexnet_core.commands.intake import intake
from alexnet_core.commands.pictures import curves, filters, preview
from alexnet_core.commands.predict import predict
from alexnet_core.commands.predict_many import predict_many
from alexnet_core.commands.prepare import prepare
from alexnet_core.commands.published_weights import import_caffe, import_torchvision
from alexnet_core.commands.train import train
from alexnet_core.commands.trainer import trainer
from alexnet_core.errors import CoreError, explain_memory

PROGRAM = "python -m alexnet_core"
_FOR_WORKERS = {"intake", "predict-many", "prepare", "trainer"}  #: what they print is read by a program

app = typer.Typer(no_args_is_help=False, add_completion=False, rich_markup_mode=None)


@app.callback()
def _begin(context: typer.Context) -> None:
    """Train, evaluate and export AlexNet without any service."""
    if context.invoked_subcommand not in _FOR_WORKERS:
        logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO)


app.command()(train)
app.command()(evaluate)
app.command()(predict)
app.command()(curves)
app.command()(filters)
app.command()(preview)
app.command()(export)
app.command("import-keras", cls=ClassesUpToTheNextOption)(import_keras)
app.command("import-torchvision", cls=ClassesUpToTheNextOption)(import_torchvision)
app.command("import-caffe", cls=ClassesUpToTheNextOption)(import_caffe)
app.command()(prepare)
app.command()(intake)
app.command("predict-many")(predict_many)
app.command()(trainer)


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status.

    Raises:
        SystemExit: with 2: the command line is wrong, and standard error says how.
    """
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _run(argv: list[str]) -> int:
    try:
        status: int | None = typer.main.get_command(app).main(argv, prog_name=PROGRAM, standalone_mode=False)
    except typer.TyperException as exc:
        exc.show()  # type: ignore[attr-defined]  # each that parsing raises has it
        sys.exit(exc.exit_code)
    except CoreError as exc:
        print(f"{exc.code}: {exc}", file=sys.stderr)
        return 1
    except OSError as exc:
        print(f"{exc.filename}: {exc.strerror}" if exc.filename else exc, file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as exc:
        error = explain_memory(exc)
        if error is None:
            raise
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1
    return status or 0


if __name__ == "__main__":
    sys.exit(main())
