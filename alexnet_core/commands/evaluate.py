"""`python -m alexnet_core evaluate`: measures how well a checkpoint does on a split of a dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from alexnet_core.commands import arguments


def evaluate(
    checkpoint: arguments.Checkpoint,
    dataset: arguments.DatasetName,
    source: arguments.Source = None,
    data_dir: arguments.DataDir = arguments.DEFAULT_DATA_DIR,
    split: Annotated[Literal["train", "validation", "test"], typer.Option(help="The split to evaluate on.")] = "test",
    crops: Annotated[
        Literal[1, 10] | None, typer.Option(help="Views of an image to average; default: the checkpoint's own number.")
    ] = None,
    hardest: Annotated[
        int, typer.Option(parser=arguments.count, metavar="N", help="How many of the hardest images to name.")
    ] = 10,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write everything as JSON too.")] = None,
    label_errors: Annotated[
        bool, typer.Option("--label-errors", help="Name training images whose label is likely wrong.")
    ] = False,
    device: arguments.Device = "cpu",
    others: arguments.Others = [],  # noqa: B006 - Typer hands over a new list
) -> int:
    """Print a checkpoint's loss and accuracy, also by class, and the hardest images."""
    from alexnet_core.commands.datasets import open_dataset
    from alexnet_core.environment import require_device
    from alexnet_core.errors import CheckpointIncompatible
    from alexnet_core.evaluation.confident_learning import NothingToCheck
    from alexnet_core.evaluation.ensemble import Ensemble
    from alexnet_core.evaluation.label_errors import find_label_errors, to_text
    from alexnet_core.evaluation.predictor import Predictor
    from alexnet_core.evaluation.report import report_on, to_table
    from alexnet_core.network.checkpoint import load_checkpoint

    require_device(device)
    loaded = [load_checkpoint(path) for path in (checkpoint, *others)]
    ensemble = Ensemble([Predictor.of(one, device=device) for one in loaded])
    predictor, further = ensemble.members[0], ensemble.members[1:]
    pack = open_dataset(dataset, data_dir=data_dir, source=source)
    if predictor.class_names != pack.class_names:
        raise CheckpointIncompatible(
            f"{checkpoint} tells apart {', '.join(predictor.class_names[:20])}; {dataset} has other "
            "classes: use the dataset that it was trained on"
        )
    found = report_on(
        predictor.model,
        pack,
        split,
        predictor.preprocessing,
        device=device,
        crops=crops or loaded[0].config.test_crops,
        num_hardest=hardest,
        others=[(member.model, member.preprocessing) for member in further],
    )
    print(to_table(found))
    own = [one.metadata.get("validate_on") for one in loaded if "imported_from" not in one.metadata]
    if split == "validation" and (seen := [name for name in own if name in {"test", "none"}]):
        print(f"\nthe network was also trained on this split (validate_on is {seen[0]}): other images will do worse")
    if any(one.metadata.get("validate_on") == split for one in loaded):
        print(f"\nthe best epoch was chosen on this split ({split}): other images will do worse")
    written = json.loads(found.model_dump_json())
    if label_errors:
        try:
            errors = find_label_errors(predictor.model, pack, predictor.preprocessing, device=device)
            print(f"\n{to_text(errors)}")
            written["label_errors"] = json.loads(errors.model_dump_json())
        except NothingToCheck as exc:
            print(f"\nthe labels can't be checked: {exc}")
            written["label_errors"] = None
    if report is not None:
        report.write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0
