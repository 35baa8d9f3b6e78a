"""The `MODEL_CARD.md` of a download: what a checkpoint is, what it was trained on, how well it does, how to use it.

It is written when it is downloaded, so that it has what has become known since: the evaluation comes at a job's end.
Every text that a user chose is escaped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from alexnet_core.config import DatasetFacts, TrainConfig
from alexnet_core.data.published.builtin import BUILTINS
from alexnet_core.evaluation.job_evaluation import JobEvaluation
from alexnet_core.layout import CLASSES, METADATA, PREPROCESSING
from alexnet_core.network.geometry import count_parameters
from alexnet_core.reliability import Calibration
from api.downloads.loading_code import describe_loading
from trainyard.build import build_id
from trainyard.database.tables import Checkpoint, Dataset, Job

MODEL_CARD = "MODEL_CARD.md"
LICENCE_KEYS = ("data_licence", "data_license")  #: of a job's metadata: what the licence of its images is
MAX_EPOCHS, MAX_CLASSES, MAX_PAIRS = 30, 100, 10  #: rows of the tables
_LIBRARIES = {"safetensors": "safetensors", "onnx": "onnx", "keras": "keras", "torch_export": "pytorch"}
_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class CardFacts:
    """What a card is written from."""

    checkpoint: Checkpoint
    job: Job
    dataset: Dataset
    epochs: list[dict[str, Any]]  #: the points of the job's series by epoch, thinned to `MAX_EPOCHS`
    evaluation: JobEvaluation | None  #: of the job's best checkpoint; None: there is none, or not yet


def write_card(facts: CardFacts, form: str, files: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Write the card.

    Args:
        facts: what is known.
        form: of the download: `safetensors`, `onnx`, `keras` or `torch_export`.
        files: the other files of the download: name -> sha256, size.
    """
    parts = (
        _front_matter(form),
        _introduction(facts),
        _data(facts),
        _evaluation(facts),
        _calibration(facts),
        _curves(facts),
        _use(facts, form),
        _configuration(facts),
        _origin(facts),
        _files(files),
    )
    return ("\n\n".join("\n".join(part) for part in parts) + "\n").encode("utf-8", "backslashreplace")


def _front_matter(form: str) -> list[str]:
    library = f"library_name: {_LIBRARIES[form]}"
    return ["---", "pipeline_tag: image-classification", library, "tags: [alexnet, trainyard]", "---"]


def _introduction(facts: CardFacts) -> list[str]:
    return [
        f"# AlexNet for {_plain(facts.dataset.name)}",
        "",
        f"A convolutional network of the AlexNet family (Krizhevsky, Sutskever and Hinton 2012){_size(facts)}. "
        f"It gives a probability for each of {len(_facts_of(facts).class_names)} classes.",
        "",
        "It knows these classes and nothing else: to an image of something else it gives one of them all the same. How "
        "well it does on other images than those that it was tested on, nobody has measured.",
        "",
        f"Checkpoint `{facts.checkpoint.id}`: epoch {facts.checkpoint.epoch}, step {facts.checkpoint.step:,} "
        f"of job `{facts.job.id}`, {_time(facts.checkpoint.created_at)}.",
    ]


def _size(facts: CardFacts) -> str:
    try:
        config = TrainConfig.model_validate(facts.job.config)
    except ValidationError:  # another version trained it
        return ""
    known = _facts_of(facts)
    channels = config.channels or known.channels
    number = count_parameters(config, known.num_classes, channels)
    kind = "grey" if channels == 1 else "colour"
    return f" with {number:,} parameters, for square {kind} images of {config.image_px} pixels a side"


def _data(facts: CardFacts) -> list[str]:
    known, dataset = _facts_of(facts), facts.dataset
    counts = [("training", known.num_train), ("validation", known.num_val), ("test", known.num_test)]
    images = ", ".join(f"{number:,} {split}" for split, number in counts if number is not None)
    rows = [
        ("dataset", f"{_plain(dataset.name)} (`{dataset.id}`)"),
        ("images", images or "not counted"),
        ("stored as", f"{known.image_px} x {known.image_px} pixels, {known.channels} channel(s)"),
        ("sha256 of the content", f"`{facts.job.dataset_digest or dataset.digest or 'unknown'}`"),
        ("licence", _licence(facts)),
    ]
    if dataset.owner is None and dataset.name in BUILTINS:
        rows.insert(1, ("published as", BUILTINS[dataset.name].source))
    names = ", ".join(_plain(name) for name in known.class_names[:MAX_CLASSES])
    more = len(known.class_names) - MAX_CLASSES
    names += f" and {more:,} more (`{CLASSES}` has all)" if more > 0 else ""
    return ["## Data", "", *_table(("", ""), rows), "", f"Classes: {names}."]


def _licence(facts: CardFacts) -> str:
    given = next((facts.job.labels[key] for key in LICENCE_KEYS if facts.job.labels.get(key)), None)
    return "not given: ask whoever has the images" if given is None else _plain(str(given))


def _evaluation(facts: CardFacts) -> list[str]:
    lines = ["## Evaluation", ""]
    own = [(name, _number(value)) for name, value in sorted(facts.checkpoint.metrics.items()) if name != "seconds"]
    lines += ["This checkpoint, when it was written:", "", *_table(("measure", "value"), own)] if own else []
    found = facts.evaluation
    if found is None or not found.num_images:
        reason = (
            "The dataset has no test images."
            if found is not None
            else "The job has no evaluation on test images (yet)."
        )
        return [*lines, "", reason]
    same = found.weights_sha256 == facts.checkpoint.weights_sha256
    subject = "This checkpoint" if same else f"**Another checkpoint of the job**, its best one (epoch {found.epoch}),"
    once = "" if found.validated_on_test else ", which were used once, after training"
    lines += [
        "",
        f"{subject} on the {found.num_images:,} test images{once}:",
        "",
        *_table(
            ("measure", "value"),
            [
                ("top-1 accuracy", _share(found.top1)),
                ("top-5 accuracy", _share(found.top5)),
                ("loss", _number(found.loss)),
            ],
        ),
    ]
    if found.validated_on_test:
        lines += ["", "**The test images also chose the epoch, so other images will do worse.**"]
    if found.classes:
        rows = [
            (_plain(one.label), f"{one.count:,}", _share(one.precision), _share(one.recall), _share(one.f1))
            for one in found.classes[:MAX_CLASSES]
        ]
        lines += ["", *_table(("class", "images", "precision", "recall", "F1"), rows)]
    if found.confused:
        pairs = [(_plain(one.true), _plain(one.predicted), f"{one.count:,}") for one in found.confused[:MAX_PAIRS]]
        lines += ["", "Confused most often:", "", *_table(("is", "was taken for", "images"), pairs)]
    return lines


def _calibration(facts: CardFacts) -> list[str]:
    title = ["## Calibration", ""]
    if facts.checkpoint.calibration is None:
        return [*title, "How far this checkpoint's probabilities can be trusted was not measured (yet)."]
    found = Calibration.model_validate(facts.checkpoint.calibration)
    rows = [
        (name, _number(of.ece), _number(of.nll), _share(of.confidence), _share(of.accuracy))
        for name, of in (("the network's own", found.before), ("corrected", found.after))
    ]
    return [
        *title,
        f"How far this checkpoint's probabilities can be trusted, by the {found.num_images:,} {found.split} images:",
        "",
        *_table(
            ("probabilities", "expected calibration error", "loss", "mean of the first class", "it is right"), rows
        ),
        "",
        f"To correct them, divide the logits by the temperature {_number(found.temperature)} before the softmax. "
        "It was fitted on the same images, so on others the error will be a little larger.",
    ]


def _curves(facts: CardFacts) -> list[str]:
    points = facts.epochs
    if not points:
        return ["## Learning curves", "", "No epoch was reported."]
    names = [name for name in ("train_loss", "val_loss", "val_top1", "val_top5") if any(name in p for p in points)]
    rows = [(str(point["epoch"]), *(_number(point.get(name)) for name in names)) for point in points]
    bars = [f"{name.ljust(10)}  {_sparkline([point.get(name) for point in points])}" for name in names]
    thinned = len(points) >= MAX_EPOCHS
    return [
        "## Learning curves",
        "",
        *(["Some of the epochs; the best ones are among them.", ""] if thinned else []),
        "```",
        *bars,
        "```",
        "",
        *_table(("epoch", *names), rows),
    ]


def _use(facts: CardFacts, form: str) -> list[str]:
    return [
        "## How to use it",
        "",
        *describe_loading(form, facts.checkpoint.id),
        "",
        f"`{PREPROCESSING}` says how an image becomes the network's input: the square in its middle is resized to "
        "`resize_px` (or to `image_px` where that is null), its middle `image_px` are cut out, and each channel, of "
        "values from 0 to 255, is standardised by `mean` and `std`.",
    ]


def _configuration(facts: CardFacts) -> list[str]:
    rows = [(f"`{name}`", _plain(_compact(value))) for name, value in facts.job.config.items()]
    return ["## Configuration", "", f"Recipe `{_plain(facts.job.recipe)}`.", "", *_table(("option", "value"), rows)]


def _origin(facts: CardFacts) -> list[str]:
    job = facts.job
    rows = [
        ("job", f"`{job.id}`" + (f" ({_plain(job.name)})" if job.name else "")),
        ("seed", str(job.seed)),
        ("state of the job", str(job.shown_state)),
        ("started", _time(job.started_at)),
        ("ended", _time(job.finished_at)),
        ("begun from", f"`{job.init_from or job.resume_from}`" if job.init_from or job.resume_from else "nothing"),
        ("written by", f"Trainyard {_plain(build_id())}"),
    ]
    return ["## Origin", "", *_table(("", ""), rows), "", f"`{METADATA}` has the machine and the versions."]


def _files(files: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows = [(f"`{name}`", f"{entry['size']:,}", f"`{entry['sha256']}`") for name, entry in files.items()]
    return ["## Files", "", *_table(("file", "bytes", "sha256"), rows)]


def _facts_of(facts: CardFacts) -> DatasetFacts:
    return DatasetFacts.model_validate(facts.dataset.facts)


# --- Markdown ---


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [_row(head), _row(["---"] * len(head)), *(_row(row) for row in rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """Return a text that Markdown and HTML show as it is, in one line."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&])", r"\\\1", " ".join(text.split()))


def _compact(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_compact(item) for item in value) or "none"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) and math.isfinite(value) else "unknown"


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.2f} %"


def _time(seconds: float | None) -> str:
    return "not yet" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def _sparkline(values: Sequence[Any]) -> str:
    """Draw values as a row of bars, the lowest as the lowest bar; a gap where there is none."""
    known = [value for value in values if isinstance(value, int | float) and math.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    return "".join(
        _BARS[round((len(_BARS) - 1) * (value - low) / (high - low)) if high > low else 0] if value in known else " "
        for value in values
    )
