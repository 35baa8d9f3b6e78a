"""`trainyard train` and `trainyard watch`: from a folder of images to a trained network, in one command."""

from __future__ import annotations

import json
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer

from trainyard.client import Client
from trainyard.client.kinds import SETTLED
from trainyard.commands.connecting import DETACHED, FAILED, USAGE, AsJson, Url, connected, print_json, refusal
from trainyard.commands.dataset_commands import (
    ImagePx,
    Name,
    NoFlip,
    find_dataset,
    push_source,
    say_missing,
    wait_for_dataset,
)
from trainyard.commands.job_references import JOB_HELP, find_job
from trainyard.terminal.command_name import own_name
from trainyard.terminal.rows import Row
from trainyard.terminal.terminal import Terminal
from trainyard.terminal.training_display import Curves
from trainyard.terminal.words import say_percent

BETTER_THAN_A_GUESS = 0.1  #: of the test images; a network that has learnt is right that much more often
MAX_EPOCHS = 1000  #: that the training option takes

Options = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="A training option, such as epochs=5; may be repeated."),
]


def train(
    source: Annotated[
        str, typer.Argument(help="A folder with a folder for each class, an archive of one, or a dataset's id or name.")
    ],
    recipe: Annotated[str | None, typer.Option(help="A recipe. Default: the one that fits the images.")] = None,
    options: Options = None,
    job_name: Annotated[str | None, typer.Option(metavar="NAME", help="The job's name.")] = None,
    name: Name = None,
    image_px: ImagePx = None,
    no_flip: NoFlip = False,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random in the run.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show the training until it ends.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Train on a folder or archive of images, or on a dataset that is there. Ctrl-C stops nothing in the yard."""
    terminal, overrides = Terminal(), read_options(options or [])
    with connected(url) as client:
        job: Row | None = None
        check_options(client, recipe, overrides)
        try:
            dataset = _find_or_push(
                client, terminal, source, name=name, image_px=image_px, flip_safe=False if no_flip else None
            )
            fields: dict[str, Any] = {"overrides": overrides, "recipe": recipe, "seed": seed, "name": job_name}
            job = client.create_job(dataset["id"], **{key: it for key, it in fields.items() if it is not None})
            terminal.say(f"job {job['id']} on {dataset['name']}")
            if watch:
                if dataset["state"] not in SETTLED:
                    wait_for_dataset(client, terminal, dataset)
                job = _watch(client, terminal, job["id"])
        except KeyboardInterrupt:
            raise _detached(job) from None
        advice = advise(client, job) if watch else None
    _tell(terminal, job, as_json=as_json, ended=watch, advice=advice)


def watch(
    job: Annotated[str, typer.Argument(metavar="JOB", help=JOB_HELP)] = "last", url: Url = None, as_json: AsJson = False
) -> None:
    """Show a job until it ends. Ctrl-C stops the showing, not the job."""
    terminal = Terminal()
    with connected(url) as client:
        found = find_job(client, job)
        try:
            found = _watch(client, terminal, found["id"])
        except KeyboardInterrupt:
            raise _detached(found) from None
        advice = advise(client, found)
    _tell(terminal, found, as_json=as_json, ended=True, advice=advice)


def _find_or_push(client: Client, terminal: Terminal, source: str, **options: Any) -> Row:
    """Return the dataset that is meant: a path that exists is uploaded."""
    if Path(source).exists():
        return push_source(client, terminal, Path(source), **options)
    if {"/", "\\"} & set(source):
        raise FileNotFoundError(say_missing(source))
    if any(value is not None for value in options.values()):
        raise refusal(f"--name, --image-px and --no-flip are for a folder or archive; {source} is none", USAGE)
    return find_dataset(client, source)


def _watch(client: Client, terminal: Terminal, job_id: str) -> Row:
    def read_curves() -> Curves:
        series = client.get_metrics(job_id)
        return Curves(series["by_step"], series["by_epoch"])

    with terminal.training(job_id, read_curves) as show:
        return client.wait(job_id, on_change=show)


def _detached(job: Row | None) -> typer.Exit:
    if job is None:
        return refusal("stopped; the same command goes on with the upload", DETACHED)
    return refusal(f"job {job['id']} goes on; `{own_name()} watch {job['id']}` shows it again", DETACHED)


def advise(client: Client, job: Row) -> str | None:
    """Return what to do where a network is hardly better than a guess; None if it is. An epoch of few pictures is few
    steps, so a small dataset needs more of them.
    """
    if job["state"] != "succeeded" or not job["test"]:
        return None
    num_classes = client.get_dataset(job["dataset"])["num_classes"]
    if not num_classes or job["test"]["top1"] >= 1 / num_classes + BETTER_THAN_A_GUESS:
        return None
    epochs = min(3 * job["config"]["epochs"], MAX_EPOCHS)
    guess = say_percent(1 / num_classes)
    return (
        f"it has learnt little: a guess is right in {guess}. Train longer (--set epochs={epochs}), or on more pictures"
    )


def _tell(terminal: Terminal, job: Row, *, as_json: bool, ended: bool, advice: str | None = None) -> None:
    if as_json:
        print_json(job)
    elif ended:
        terminal.tell_end(job)
        if job["state"] == "succeeded":
            if advice is not None:
                terminal.say(advice)
            terminal.say(f"next: {own_name()} predict IMAGE --model {job['id']}")
    else:
        terminal.tell(job["id"])
        terminal.say(f"`{own_name()} watch` shows it, `{own_name()} jobs` lists all")
    if ended and job["state"] != "succeeded":
        raise typer.Exit(FAILED)


def check_options(client: Client, recipe: str | None, overrides: dict[str, Any]) -> None:
    """Refuse a recipe or an option that does not exist, before anything is uploaded."""
    if recipe is None and not overrides:
        return
    recipes = {each["name"]: each for each in client.list_recipes()}
    if recipe is not None and recipe not in recipes:
        raise refusal(f"there is no recipe {recipe!r}: use one of {', '.join(recipes)}", FAILED, code="recipe_unknown")
    known = next(iter(recipes.values()))["config"]
    for name in overrides:
        if name not in known:
            close = get_close_matches(name, known, n=3)
            advice = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known)}"
            raise refusal(f"--set {name}: there is no such training option; {advice}", FAILED, code="config_invalid")


def read_options(pairs: list[str]) -> dict[str, Any]:
    """Read options such as `epochs=5`. A value that is not JSON is a text."""
    found: dict[str, Any] = {}
    for pair in pairs:
        field, equals, text = pair.partition("=")
        if not field or not equals:
            raise refusal(f"--set {pair}: write it as FIELD=VALUE, such as epochs=5", USAGE)
        try:
            found[field] = json.loads(text)
        except ValueError:
            found[field] = text
    return found
