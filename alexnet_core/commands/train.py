"""`python -m alexnet_core train`: runs the training loop without any service, and prints how it goes."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from typing_extensions import override

from alexnet_core.commands import arguments
from alexnet_core.layout import CHECKPOINTS, TENSORBOARD, CheckpointName
from alexnet_core.messages import EpochEnd, Started
from alexnet_core.training.hooks import Hooks

if TYPE_CHECKING:
    from alexnet_core.data.pack import Pack
    from alexnet_core.network.checkpoint import Checkpoint
    from alexnet_core.training.run_spec import RunResult
    from alexnet_core.training.world import World


@dataclass(frozen=True)
class TrainOptions:
    """The options of the command line; see `train`."""

    dataset: str
    source: Path | None
    data_dir: Path
    recipe: str | None
    override: list[str]
    seed: int | None
    out: Path | None
    resume: Path | None
    init_from: Path | None
    max_runtime_s: float | None
    device: str
    towers: bool


def train(
    dataset: arguments.DatasetName,
    source: arguments.Source = None,
    data_dir: arguments.DataDir = arguments.DEFAULT_DATA_DIR,
    recipe: Annotated[str | None, typer.Option(help="A named configuration; default: the dataset's.")] = None,
    override: arguments.Override = [],  # noqa: B006 - Typer hands over a new list
    seed: Annotated[
        int | None,
        typer.Option(parser=arguments.count, metavar="N", help="The same seed gives the same weights; default: 0."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where checkpoints go; default: 'checkpoints'.")] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="CHECKPOINT", help="Continue the run of this checkpoint.")
    ] = None,
    init_from: Annotated[
        Path | None, typer.Option(metavar="CHECKPOINT", help="Begin with only the weights of this checkpoint.")
    ] = None,
    max_runtime_s: Annotated[
        float | None,
        typer.Option(
            parser=arguments.seconds,
            metavar="S",
            help="Seconds of training, with those before --resume; then save and end.",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="cpu, cuda, or two devices with a comma between them, for a tower on each.")
    ] = "cpu",
    towers: Annotated[
        bool, typer.Option("--towers", help="Half of the network in each of torchrun's two processes.")
    ] = False,
) -> int:
    """Train on a dataset and test the best epoch."""
    if resume is not None and (recipe or override or seed is not None):
        raise typer.BadParameter(
            "--resume continues a run with its own options: leave out --recipe, --override and --seed"
        )
    if resume is not None and init_from is not None:
        raise typer.BadParameter("--resume uses the weights of its checkpoint: leave out --init-from")
    options = TrainOptions(
        dataset, source, data_dir, recipe, override, seed, out, resume, init_from, max_runtime_s, device, towers
    )
    from alexnet_core.environment import require_device
    from alexnet_core.training.world import join

    for name in device.split(","):
        require_device(name)
    with (
        join(os.environ, device, towers=towers) as world,
        redirect_stdout(sys.stdout if world.is_first else None),  # the first process speaks for all
    ):
        return _train_in(world, options)


class ConsoleHooks(Hooks):
    """Prints one line for each epoch. Ctrl-C or SIGTERM stops the run after the current step."""

    def __init__(self, *, speaks: bool = True) -> None:
        self._speaks = speaks
        self.exit_status = 0  #: of a stopped run: 128 and the signal's number, as shells count
        signal.signal(signal.SIGINT, self._stop)
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        if self.exit_status:
            sys.exit(self.exit_status)
        self.exit_status = 128 + number
        if self._speaks:
            print("stopping after this step; a second signal stops at once", file=sys.stderr)

    @override
    def on_started(self, report: Started) -> None:
        precision = f"{report.environment['precision']} ({report.precision_reason})"
        print(f"training on {report.device} in {precision}, steps {report.step} to {report.steps}")
        if report.started_anew:
            print(f"the checkpoint has other classes: {', '.join(report.started_anew)} starts anew")

    @override
    def on_epoch(self, report: EpochEnd) -> None:
        metrics = report.metrics
        found = (
            f"val loss {metrics['val_loss']:.4f}  val top-1 {metrics['val_top1']:.2%}  "
            if "val_top1" in metrics
            else ""
        )
        print(
            f"epoch {report.epoch:4d}  train loss {metrics['train_loss']:.4f}  {found}{metrics['seconds']:.1f} s",
            flush=True,
        )

    @override
    def on_warning(self, code: str, message: str) -> None:
        print(f"warning {code}: {message}", file=sys.stderr)

    @override
    def should_stop(self) -> bool:
        return self.exit_status != 0


def _train_in(world: World, options: TrainOptions) -> int:
    from alexnet_core.commands.datasets import require_outside
    from alexnet_core.network.checkpoint import load_checkpoint
    from alexnet_core.recipes import resolve
    from alexnet_core.training.loop import Run
    from alexnet_core.training.run_spec import RunSpec
    from alexnet_core.training.tensorboard import beside_event_files
    from alexnet_core.training.world import is_lost_connection

    world.first(lambda: _open_dataset(options).digest)  # one process alone prepares and verifies it
    pack = _open_dataset(options, verify=False)
    recipe, config = resolve(options.recipe, arguments.parse_overrides(options.override), pack.facts)
    seed, best_checkpoint = options.seed or 0, None
    if options.resume is not None:
        checkpoint = load_checkpoint(options.resume, state=True)
        recipe, config, seed = "resumed", checkpoint.config, checkpoint.metadata["seed"]
        best_checkpoint = _find_best_beside(options.resume, checkpoint)
    out = options.out or (options.resume.absolute().parent if options.resume else Path(CHECKPOINTS))
    require_outside(options.dataset, out, "--out")
    out.mkdir(parents=True, exist_ok=True)  # now, rather than fail after the first epoch
    print(f"{options.dataset}, recipe {recipe}, seed {seed}, checkpoints in {out}")
    spec = RunSpec(
        config, pack, seed, out, lease_epoch=_count_runs(out), resume_from=options.resume,
        best_checkpoint=best_checkpoint, init_from=options.init_from, max_runtime_s=options.max_runtime_s,
    )  # fmt: skip
    console = ConsoleHooks(speaks=world.is_first)
    folder = out / TENSORBOARD if world.is_first else None
    try:
        with beside_event_files(console, folder, attempt=spec.lease_epoch) as hooks:
            result = Run(spec, hooks, world=world).train()
    except RuntimeError as exc:
        if world.size == 1 or not is_lost_connection(exc):
            raise
        last = _find_last(out, spec.lease_epoch) or options.resume
        how = (
            f"go on with {_to_go_on(options, last, is_over=False)}" if last else "it has no checkpoint yet: start anew"
        )
        print(f"another process of this run has ended, so this one ends too; {how}", file=sys.stderr)
        return 1
    if result.outcome == "stopped":
        print(f"stopped at step {result.step}; go on with {_to_go_on(options, result.last_checkpoint, is_over=False)}")
        return console.exit_status
    if result.outcome == "max_runtime":
        print(
            f"max_runtime: {options.max_runtime_s:g} s of training are over at step {result.step}; go on with "
            f"{_to_go_on(options, result.last_checkpoint, is_over=True)} and a longer --max-runtime-s",
            file=sys.stderr,
        )
        return 1
    if result.test is not None:
        print(f"test accuracy {result.test['top1']:.2%} on {result.test['num_images']} images{_tell_choice(result)}")
    print(f"weights {result.weights_sha256}")
    return 0


def _tell_choice(result: RunResult) -> str:
    """Return a remark on how the tested epoch was chosen, if not by the validation split."""
    return {
        "test": ", which chose the best epoch too: other images will do worse",
        "none": ", of the last epoch: nothing was chosen by them",
    }.get((result.test or {})["chosen_on"], "")


def _to_go_on(options: TrainOptions, checkpoint: Path | None, *, is_over: bool) -> str:
    """Return the options of the command that resumes a run.

    Options with their default value are left out, and so is a time limit that is used up.
    """
    chosen = {
        "--dataset": options.dataset,
        "--resume": checkpoint,
        "--source": options.source,
        "--data-dir": None if options.data_dir == arguments.DEFAULT_DATA_DIR else options.data_dir,
        "--device": None if options.device == "cpu" else options.device,
        "--max-runtime-s": None if is_over or options.max_runtime_s is None else f"{options.max_runtime_s:g}",
    }
    words = [word for option, value in chosen.items() if value is not None for word in (option, str(value))]
    return shlex.join(words + ["--towers"] * options.towers)


def _find_best_beside(path: Path, checkpoint: Checkpoint) -> Path | None:
    """Return the checkpoint of the best epoch of this checkpoint's run. None: no epoch has ended, or it was removed."""
    best = (checkpoint.state or {}).get("best")
    found = path.absolute().parent / best["name"] if best else None
    if found is not None and not found.is_dir():
        print(
            f"warning: {found}, the best epoch so far, no longer exists: a later epoch will be tested", file=sys.stderr
        )
        return None
    return found


def _find_last(out: Path, lease_epoch: int) -> Path | None:
    """Return the checkpoint with the highest step that a run has written to its folder. None: there is none yet."""
    found = {path: name for path in out.iterdir() if (name := CheckpointName.parse(path.name))}
    found = {path: name for path, name in found.items() if name.lease_epoch == lease_epoch}
    return max(found, key=lambda path: found[path].step, default=None)


def _open_dataset(options: TrainOptions, *, verify: bool = True) -> Pack:
    from alexnet_core.commands.datasets import open_dataset

    return open_dataset(options.dataset, data_dir=options.data_dir, source=options.source, verify=verify)


def _count_runs(out: Path) -> int:
    """Return a number that no checkpoint's name in that folder ends with, so that runs don't collide."""
    names = (CheckpointName.parse(path.name) for path in out.iterdir())
    return 1 + max((name.lease_epoch for name in names if name is not None), default=-1)
