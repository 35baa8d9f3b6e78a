"""The command line: run a yard, train on your pictures, and run each process of a yard on several machines."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from trainyard import __version__, logs
from trainyard.commands import registration
from trainyard.commands.connecting import AsJson, Url, find_yard, print_json
from trainyard.private_files import FolderUnusable, keep_private
from trainyard.settings import Settings
from trainyard.settings.refused_settings import explain
from trainyard.terminal.terminal import Terminal

HELP = """Train AlexNet on your pictures, watch it, and predict.

Begin with `trainyard up` in one terminal, which starts a yard on this machine. In another one:

`trainyard train FOLDER --watch`, where FOLDER holds a folder of pictures for each class, then
`trainyard predict IMAGE`. `trainyard open` shows the yard in a browser, and `trainyard doctor` says what is missing.
"""

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=HELP)
RUN = "Run a yard"
registration.register(app)


@app.command(rich_help_panel=RUN)
def up(
    host: Annotated[str | None, typer.Option(help="Address to listen on; any but loopback needs a key.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0: any free one.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder for all data.")] = None,
    slots: Annotated[int | None, typer.Option(help="How many jobs train at the same time.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run a whole yard on this machine: queue server, worker and API. Ctrl-C stops it; running jobs go on next time."""
    _need_yard()
    from trainyard.errors import DatabaseUnavailable
    from trainyard.launch.yard import Yard, YardError, describe

    settings = _read_settings(host=host, port=port, data_dir=data_dir, slots=slots)
    _check_exposure(settings)
    try:
        with Yard(settings, say=_say_aside if as_json else _say) as yard:
            print(json.dumps({"url": yard.url}) if as_json else describe(yard), flush=True)
            yard.run()
    except (YardError, DatabaseUnavailable) as exc:
        _refuse(str(exc))
    except KeyboardInterrupt:
        sys.exit(130)


@app.command(rich_help_panel=RUN)
def demo(
    dataset: Annotated[str, typer.Option(help="A built-in dataset.")] = "digits",
    epochs: Annotated[int | None, typer.Option(help="How many epochs to train; default: the recipe's.")] = None,
) -> None:
    """Start a yard in a temporary folder, train on real images through the API, predict, and stop."""
    _need_yard()
    from trainyard.launch.demo import run_demo

    sys.exit(run_demo(dataset, epochs))


@app.command(rich_help_panel=RUN)
def api() -> None:
    """Run only the API (settings from the environment)."""
    _need_yard()
    os.execv(sys.executable, [sys.executable, "-m", "api"])


@app.command(rich_help_panel=RUN)
def worker() -> None:
    """Run only a worker (settings from the environment)."""
    _need_yard()
    os.execv(sys.executable, [sys.executable, "-m", "worker"])


@app.command(rich_help_panel=RUN)
def reconcile() -> None:
    """Run only the reconciler: the relay, the reaper and the removal of pruned files."""
    _need_yard()
    from trainyard.database.connection import Database
    from trainyard.scheduling.queue import CeleryWaker
    from trainyard.storage.opening import open_storage
    from trainyard.upkeep.reconciler import Reconciler

    settings = _read_settings()
    if settings.redis_url is None:
        _refuse("TRAINYARD_REDIS_URL is not set: the reconciler needs a queue to send to")
    assert settings.redis_url is not None
    logs.configure(settings.log_level)
    waker = CeleryWaker(settings.redis_url.get_secret_value())
    Reconciler(settings, Database(settings.sqlalchemy_url), waker, open_storage(settings)).run()


@app.command(rich_help_panel=RUN)
def migrate(as_json: AsJson = False) -> None:
    """Bring the database's tables to this version; harmless if they already have it."""
    _need_yard()
    from trainyard.database.connection import Database
    from trainyard.database.schema import migrate as migrate_tables
    from trainyard.database.schema import newest_revision
    from trainyard.errors import DatabaseUnavailable

    settings = _read_settings()
    try:
        migrate_tables(Database(settings.sqlalchemy_url))
    except DatabaseUnavailable as exc:
        _refuse(exc.message if exc.__cause__ is None else f"{exc.message} ({exc.__cause__})")
    print_json({"revision": newest_revision()}) if as_json else print(f"tables are at revision {newest_revision()}")


@app.command(rich_help_panel=RUN)
def doctor(
    data_dir: Annotated[Path | None, typer.Option(help="Folder for all data of the yard on this machine.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Check this machine and the yard: Python, PyTorch, GPU, disk, database, queue, port, clock. Says what to do."""
    from trainyard.launch import doctor as checks

    settings = _read_settings(data_dir=data_dir, make_folder=False)
    findings = checks.examine(settings, *find_yard(url))
    if as_json:
        print_json([finding.as_json() for finding in findings])
    else:
        Terminal().tell_findings(findings)
    if any(finding.verdict is checks.Verdict.PROBLEM for finding in findings):
        sys.exit(1)


@app.command(rich_help_panel=RUN)
def version(as_json: AsJson = False) -> None:
    """Print the version."""
    print_json({"version": __version__}) if as_json else print(__version__)


def main() -> None:
    """Entry of the `trainyard` command."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    app()


def _need_yard() -> None:
    """Refuse what a client alone can't do."""
    if importlib.util.find_spec("sqlalchemy") is None:
        _refuse("only the client is installed here: `pip install 'trainyard[yard]'` adds what a yard needs")


def _say(line: str) -> None:
    print(line, flush=True)  # also where the output is no terminal


def _say_aside(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _read_settings(*, make_folder: bool = True, **given: Any) -> Settings:
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as exc:
        _refuse(f"settings: {explain(exc)}")
        raise AssertionError from exc
    if make_folder:
        try:
            keep_private(settings.data_dir)
        except FolderUnusable as exc:
            _refuse(str(exc))
    return settings


def _check_exposure(settings: Settings) -> None:
    try:
        settings.check_exposure()
    except ValueError as exc:
        _refuse(str(exc))


def _refuse(message: str) -> None:
    print(f"trainyard: {message}", file=sys.stderr)
    sys.exit(2)
