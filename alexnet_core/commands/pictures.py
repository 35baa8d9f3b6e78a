"""`python -m alexnet_core curves`, `filters` and `preview`: draw pictures of a run, a checkpoint and a dataset."""

from __future__ import annotations

import errno
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from alexnet_core.commands import arguments
from alexnet_core.layout import STATE_JSON, CheckpointName

if TYPE_CHECKING:
    from alexnet_core.config import TrainConfig
    from alexnet_core.evaluation.curves import Curves

_RATES = 2000  # points of the learning rate's line


def curves(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A run's checkpoints, or one of them.")],
    out: arguments.Picture,
) -> int:
    """Draw the learning curves of a run."""
    from alexnet_core.evaluation.curves import draw_curves

    run_folder = folder.absolute()
    out.write_bytes(draw_curves(read_curves(run_folder), run_folder.name))
    return 0


def filters(
    checkpoint: arguments.Checkpoint,
    out: arguments.Picture,
    scale: Annotated[
        Literal["common", "own"],
        typer.Option(help="Let black and white stand for the extremes of all kernels, or of each."),
    ] = "common",
) -> int:
    """Draw the kernels of a checkpoint's first convolution."""
    from alexnet_core.evaluation.filters import CONV1, draw_filters
    from alexnet_core.network.checkpoint import load_checkpoint

    loaded = load_checkpoint(checkpoint)
    out.write_bytes(draw_filters(loaded.weights[CONV1].float().numpy(), scale, towers=loaded.config.groups))
    return 0


def preview(
    dataset: arguments.DatasetName,
    out: arguments.Picture,
    source: arguments.Source = None,
    data_dir: arguments.DataDir = arguments.DEFAULT_DATA_DIR,
    page: Annotated[
        int, typer.Option(parser=arguments.count, metavar="N", help="Twenty classes are on a page; from 0.")
    ] = 0,
) -> int:
    """Draw ten training images of each class of a dataset, as they are stored."""
    from alexnet_core.commands.datasets import open_dataset
    from alexnet_core.data.inspection.preview import PREVIEW_CLASSES, draw_preview

    pack = open_dataset(dataset, data_dir=data_dir, source=source, verify=False)
    num_pages = math.ceil(len(pack.class_names) / PREVIEW_CLASSES)
    if page >= num_pages:
        raise typer.BadParameter(f"--page is {page}: {dataset} has the pages 0 to {num_pages - 1}")
    out.write_bytes(draw_preview(pack, page * PREVIEW_CLASSES))
    return 0


def read_curves(folder: Path) -> Curves:
    """Read a run's curves by epoch from the history in its newest checkpoint, with the schedule's learning rate.

    Raises:
        FileNotFoundError: there is no checkpoint with its training state.
        CheckpointCorrupt: the newest one is damaged.
        CheckpointIncompatible: another version of this program wrote it.
    """
    from alexnet_core.evaluation.curves import Curves
    from alexnet_core.network.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(_find_newest(folder), state=True)
    state = checkpoint.state or {}
    history, best = state["history"], state["best"]
    if not history:
        return Curves()
    since_epoch = math.ceil(state["epoch_images"] / checkpoint.config.batch_size)
    steps_per_epoch = (state["step"] - since_epoch) // len(history)
    by_epoch = [{"epoch": i, "step": i * steps_per_epoch} | metrics for i, metrics in enumerate(history, start=1)]
    by_step = _learning_rates(checkpoint.config, state["step"], steps_per_epoch, history)
    return Curves.of(by_step, by_epoch, best["epoch"] if best else None)


def _learning_rates(
    config: TrainConfig, num_steps: int, steps_per_epoch: int, history: list[dict[str, float]]
) -> list[dict[str, Any]]:
    from alexnet_core.training.schedule import learning_rate

    stride = max(1, num_steps // _RATES)
    return [
        {"step": step + 1, "lr": learning_rate(config, step, steps_per_epoch, history[: step // steps_per_epoch])}
        for step in range(0, num_steps, stride)
    ]


def _find_newest(folder: Path) -> Path:
    """Return the last checkpoint of the last attempt in a folder, or the folder itself if it is a checkpoint."""
    found = {path: name for path in (folder, *folder.glob("*")) if (name := CheckpointName.parse(path.name))}
    found = {path: name for path, name in found.items() if (path / STATE_JSON).is_file()}
    if not found:
        raise FileNotFoundError(errno.ENOENT, "there is no checkpoint with its training state", str(folder))
    return max(found, key=lambda path: (found[path].lease_epoch, found[path].step))
