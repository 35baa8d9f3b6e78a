"""`trainyard predict`: the classes of image files, of a folder or archive of images, or of a dataset's images."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from alexnet_core.predictions.result_tables import write_csv
from trainyard.client import Client
from trainyard.client.errors import InvalidRequest, NotFound
from trainyard.client.models import Classification
from trainyard.commands.connecting import (
    DETACHED,
    FAILED,
    USAGE,
    AsJson,
    Url,
    connected,
    find_yard,
    print_json,
    refusal,
    to_text,
)
from trainyard.commands.dataset_commands import say_missing
from trainyard.commands.job_references import find_job
from trainyard.terminal.command_name import own_name
from trainyard.terminal.rows import Row
from trainyard.terminal.terminal import Terminal

ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.zst", ".tzst")
KINDS = ("csv", "parquet", "ndjson")


def predict(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...", help="Image files; or one folder or archive of images, or a dataset's id or name."
        ),
    ],
    model: Annotated[
        str, typer.Option(help="latest, an alias, a job's name, job_…, job_…@epoch-3 or ckpt_….")
    ] = "latest",
    top_k: Annotated[int, typer.Option(min=1, max=1000, metavar="K", help="Classes to name.")] = 5,
    calibrated: Annotated[
        bool, typer.Option("--calibrated", help="Correct the probabilities by the checkpoint's calibration.")
    ] = False,
    split: Annotated[str | None, typer.Option(help="Only this split of a dataset: train, validation or test.")] = None,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print a table as CSV, in the columns of --out FILE.csv.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Write a table: its ending (.csv, .parquet, .ndjson) says which.")
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Predict images. Many of them are predicted by a worker; Ctrl-C does not stop that."""
    paths = [Path(source) for source in sources]
    kind = _read_kind(out)
    is_many = len(paths) == 1 and (paths[0].is_dir() or paths[0].name.lower().endswith(ARCHIVES))
    are_files = not is_many and all(path.is_file() for path in paths)
    if as_csv and (as_json or out is not None):
        raise refusal("--csv, --json and --out exclude each other", USAGE)
    if are_files and (split is not None or out is not None):
        raise refusal("--split and --out are for many images: a folder, an archive or a dataset", USAGE)
    if not are_files and len(paths) > 1:
        missing = next((path for path in paths if not path.is_file()), paths[0])
        raise refusal(f"{missing} is no image file: name several files, or one folder, archive or dataset", USAGE)
    fields: dict[str, Any] = {"model": model, "top_k": top_k} | ({"calibrated": True} if calibrated else {})
    terminal = Terminal()
    with connected(url) as client:
        fields["model"] = find_model(client, model)
        if are_files:
            _predict_files(client, terminal, paths, as_csv=as_csv, as_json=as_json, **fields)
            return
        prediction: Row | None = None
        try:
            prediction = _begin(client, terminal, sources[0], is_many=is_many, split=split, **fields)
            with terminal.predicting(sources[0]) as show:
                prediction = client.wait_for_prediction(prediction["id"], on_change=show)
        except KeyboardInterrupt:
            raise _detached(prediction, find_yard(url)[0]) from None
        if as_csv:
            print_csv(client.iter_results(prediction["id"]), top_k=top_k)
        elif out is not None:
            client.download_results(prediction["id"], out, kind=kind)
        elif not as_json:
            for row in client.iter_results(prediction["id"]):
                terminal.tell(describe_row(row))
    _tell_end(terminal, prediction, out, as_json=as_json)


def _detached(prediction: Row | None, address: str) -> typer.Exit:
    if prediction is None:
        return refusal("stopped; the same command goes on with the upload", DETACHED)
    return refusal(f"it goes on; its rows are at {address}/predictions/{prediction['id']}/results", DETACHED)


def _read_kind(out: Path | None) -> str:
    kind = "" if out is None else out.suffix.lower().lstrip(".")
    if out is not None and kind not in KINDS:
        raise refusal(f"--out {out}: let it end with .csv, .parquet or .ndjson", USAGE)
    return kind


def _begin(client: Client, terminal: Terminal, source: str, *, is_many: bool, split: str | None, **fields: Any) -> Row:
    if not is_many:
        if {"/", "\\"} & set(source):
            raise FileNotFoundError(say_missing(source))
        try:
            return client.create_prediction(dataset=source, split=split, **fields)
        except NotFound as exc:
            if exc.code != "dataset_not_found":
                raise
            raise FileNotFoundError(say_missing(source)) from exc
    if split is not None:
        raise refusal(f"--split is for a dataset; {source} is a folder or archive", USAGE)
    with terminal.uploading(source) as tell:
        return client.predict_source(source, on_sent=tell, **fields)


def _predict_files(
    client: Client, terminal: Terminal, paths: list[Path], *, as_csv: bool, as_json: bool, **fields: Any
) -> None:
    answers: list[dict[str, Any]] = []
    for path in paths:
        answer = _predict_file(client, path, **fields)
        answers.append({"file": str(path)} | dict(answer))
        if not as_json and not as_csv:
            terminal.tell(describe_row({"error": None} | answers[-1]))
    if as_csv:
        unknown = {"split": None, "index": None, "label": None, "error": None}
        print_csv(({"row": number} | unknown | row for number, row in enumerate(answers)), top_k=fields["top_k"])
    elif as_json:
        print_json(answers)


def _predict_file(client: Client, path: Path, **fields: Any) -> Classification:
    try:
        return client.predict(path.read_bytes(), **fields)
    except InvalidRequest as exc:
        if exc.param in {None, "file"}:
            raise ValueError(f"{path}: {exc}") from exc
        raise


def find_model(client: Client, model: str) -> str:
    """Return what the API knows a model by: where no alias has this name, the job that has."""
    if model == "latest" or model.startswith(("job_", "ckpt_")):
        return model
    try:
        return str(client.get_alias(model)["name"])
    except NotFound as exc:
        try:
            return str(find_job(client, model)["id"])
        except ValueError:
            lists = f"`{own_name()} aliases list` and `{own_name()} jobs`"
            raise ValueError(f"there is no alias and no job named {model!r}: {lists} list yours") from exc


def print_csv(rows: Iterable[Any], *, top_k: int) -> None:
    """Print rows of results as the table that a yard writes; `top_k`: classes that a row has at most."""
    out = io.BytesIO()
    write_csv((to_text(row).encode() for row in rows), out, top_k=top_k)
    typer.echo(out.getvalue(), nl=False)


def describe_row(row: Row) -> str:
    """Return a row as a line: the file, then its classes, or what is wrong with it."""
    name = row["file"] or f"image {row['index']}"
    if row["error"]:
        return f"{name}  {row['error']['code']}: {row['error']['message']}"
    return f"{name}  " + "  ".join(f"{told['label']} {told['probability']:.1%}" for told in row["predictions"])


def _tell_end(terminal: Terminal, prediction: Row, out: Path | None, *, as_json: bool) -> None:
    summary = prediction["summary"]
    if as_json:
        print_json(prediction)
    else:
        text = f"{summary['num_rows']:,} images"
        if summary["num_errors"]:
            text += f", {summary['num_errors']:,} of them can't be read"
        if summary["top1"] is not None:
            text += f"; {summary['top1']:.1%} of {summary['num_labelled']:,} right"
        terminal.say(text + ("" if out is None else f"; {out} is written"))
    if prediction["state"] != "succeeded":
        error = prediction["error"] or {"message": f"prediction {prediction['id']} is {prediction['state']}"}
        raise refusal(error["message"], FAILED)
