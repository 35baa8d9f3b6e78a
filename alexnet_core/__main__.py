"""The command line: `python -m alexnet_core train|evaluate|predict|export|import-keras|prepare|trainer`."""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import shlex
import signal
import sys
from contextlib import redirect_stdout
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from alexnet_core.commands import pictures
from alexnet_core.commands.export import add_commands
from alexnet_core.errors import CoreError
from alexnet_core.layout import CHECKPOINTS, TENSORBOARD, CheckpointName

if TYPE_CHECKING:
    from alexnet_core.data.pack import Pack
    from alexnet_core.network.checkpoint import Checkpoint, SavedCheckpoint
    from alexnet_core.training.run_spec import RunResult
    from alexnet_core.training.world import World

_DEFAULT_DATA_DIR = Path("data")


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        return _run(argv)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _run(argv: list[str]) -> int:
    command = argv[0] if argv else ""
    if command == "prepare":
        from alexnet_core.commands import prepare

        return prepare.main(argv[1:])
    if command == "trainer":
        from alexnet_core.trainer import child as trainer

        return trainer.main(argv[1:])
    parser = _build_parser()
    options = parser.parse_args(argv)
    if getattr(options, "resume", None) and (options.recipe or options.override or options.seed is not None):
        parser.error("--resume goes on as the run began: leave out --recipe, --override and --seed")
    if getattr(options, "resume", None) and options.init_from:
        parser.error("--resume has weights of its own: leave out --init-from")
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO)
    try:
        status: int = options.run(options)
    except CoreError as exc:
        print(f"{exc.code}: {exc}", file=sys.stderr)
        return 1
    except OSError as exc:
        print(f"{exc.filename}: {exc.strerror}" if exc.filename else exc, file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as exc:
        from alexnet_core.environment import explain_memory

        error = explain_memory(exc)
        if error is None:
            raise
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1
    return status


class ConsoleHooks:
    """Prints a readable line an epoch; Ctrl-C or SIGTERM stops the run after the current step."""

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
            print("stopping after this step; again to stop at once", file=sys.stderr)

    def on_started(self, report: dict[str, Any]) -> None:
        """See `runs.Hooks`."""
        print(f"training on {report['device']}, steps {report['step']} to {report['steps']}")
        if not report["bit_exact"]:
            self.on_warning("resume_not_bit_exact", "another machine, or a GPU: the run will differ in its last digits")
        if report["started_anew"]:
            print(f"the checkpoint has other classes: {', '.join(report['started_anew'])} starts anew")

    def on_first_step(self) -> None:
        """See `runs.Hooks`."""

    def on_progress(self, report: dict[str, Any]) -> None:
        """See `runs.Hooks`."""

    def on_interval(self, report: dict[str, Any]) -> None:
        """See `runs.Hooks`."""

    def on_epoch(self, epoch: int, step: int, metrics: dict[str, float]) -> None:
        """See `runs.Hooks`."""
        found = (
            f"val loss {metrics['val_loss']:.4f}  val top-1 {metrics['val_top1']:.2%}  "
            if "val_top1" in metrics
            else ""
        )
        print(
            f"epoch {epoch:4d}  train loss {metrics['train_loss']:.4f}  {found}{metrics['seconds']:.1f} s", flush=True
        )

    def on_checkpoint(self, kind: str, saved: SavedCheckpoint, metadata: dict[str, Any], is_best: bool) -> None:
        """See `runs.Hooks`."""

    def on_warning(self, code: str, message: str) -> None:
        """See `runs.Hooks`."""
        print(f"warning {code}: {message}", file=sys.stderr)

    def should_stop(self) -> bool:
        """See `runs.Hooks`."""
        return self.exit_status != 0


def _train(options: argparse.Namespace) -> int:
    from alexnet_core.environment import require_device
    from alexnet_core.training.world import join

    for device in options.device.split(","):
        require_device(device)
    with (
        join(os.environ, options.device, towers=options.towers) as world,
        redirect_stdout(sys.stdout if world.is_first else None),  # the first process speaks for all
    ):
        return _train_in(world, options)


def _train_in(world: World, options: argparse.Namespace) -> int:
    from alexnet_core.commands.datasets import require_outside
    from alexnet_core.network.checkpoint import load_checkpoint
    from alexnet_core.recipes import resolve
    from alexnet_core.training.loop import Run
    from alexnet_core.training.run_spec import RunSpec
    from alexnet_core.training.tensorboard import beside_event_files

    world.first(lambda: _open_dataset(options).digest)  # one process alone prepares and verifies it
    pack = _open_dataset(options, verify=False)
    recipe, config = resolve(options.recipe, _parse_overrides(options.override), pack.facts)
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
    with beside_event_files(console, folder, attempt=spec.lease_epoch) as hooks:
        result = Run(spec, hooks, world=world).train()
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
    """What chose the epoch that was tested, where it was not the validation split."""
    return {
        "test": ", which chose the best epoch too: other images will do worse",
        "none": ", of the last epoch: nothing was chosen by them",
    }.get((result.test or {})["chosen_on"], "")


def _to_go_on(options: argparse.Namespace, checkpoint: Path | None, *, is_over: bool) -> str:
    """The options of the command that goes on with a run, but for defaults, and for a time that is over."""
    chosen = {
        "--dataset": options.dataset,
        "--resume": checkpoint,
        "--source": options.source,
        "--data-dir": None if options.data_dir == _DEFAULT_DATA_DIR else options.data_dir,
        "--device": None if options.device == "cpu" else options.device,
        "--max-runtime-s": None if is_over or options.max_runtime_s is None else f"{options.max_runtime_s:g}",
    }
    words = [word for option, value in chosen.items() if value is not None for word in (option, str(value))]
    return shlex.join(words + ["--towers"] * options.towers)


def _find_best_beside(path: Path, checkpoint: Checkpoint) -> Path | None:
    """The best epoch's checkpoint of the run that a checkpoint is of; None: there was no epoch yet, or it is gone."""
    best = (checkpoint.state or {}).get("best")
    found = path.absolute().parent / best["name"] if best else None
    if found is not None and not found.is_dir():
        print(f"warning: {found}, the best epoch so far, is gone: a later epoch will be tested", file=sys.stderr)
        return None
    return found


def _evaluate(options: argparse.Namespace) -> int:
    from alexnet_core.environment import require_device
    from alexnet_core.errors import CheckpointIncompatible
    from alexnet_core.evaluation.predictor import Predictor
    from alexnet_core.evaluation.report import report_on, to_table
    from alexnet_core.network.checkpoint import load_checkpoint

    require_device(options.device)
    checkpoint = load_checkpoint(options.checkpoint)
    predictor, pack = Predictor.of(checkpoint, device=options.device), _open_dataset(options)
    if predictor.class_names != pack.class_names:
        raise CheckpointIncompatible(
            f"{options.checkpoint} tells apart {', '.join(predictor.class_names[:20])}; {options.dataset} has other "
            "classes: use the dataset that it was trained on"
        )
    crops = options.crops or checkpoint.config.test_crops
    report = report_on(
        predictor.model,
        pack,
        options.split,
        predictor.preprocessing,
        device=options.device,
        crops=crops,
        num_hardest=options.hardest,
    )
    print(to_table(report))
    chosen_on = checkpoint.metadata.get("validate_on")
    if chosen_on in {"test", "none"} and options.split == "validation" and "imported_from" not in checkpoint.metadata:
        print(f"\nthe network was trained on this split too (validate_on is {chosen_on}): other images will do worse")
    if chosen_on == options.split:
        print(f"\nthe best epoch was chosen on this split ({options.split}): other images will do worse")
    if options.report is not None:
        options.report.write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return 0


def _predict(options: argparse.Namespace) -> int:
    from alexnet_core.data.images import decode_image
    from alexnet_core.errors import ImageError
    from alexnet_core.evaluation.predictor import Predictor

    predictor = Predictor.load(options.checkpoint)
    for path in options.images:
        try:
            pixels = decode_image(path.read_bytes())
        except ImageError as exc:
            raise type(exc)(f"{path}: {exc}") from exc
        [predictions] = predictor.predict([pixels], options.top_k)
        print(f"{path}  " + "  ".join(f"{p.label} {p.probability:.1%}" for p in predictions))
    return 0


def _open_dataset(options: argparse.Namespace, *, verify: bool = True) -> Pack:
    from alexnet_core.commands.datasets import open_dataset

    return open_dataset(options.dataset, data_dir=options.data_dir, source=options.source, verify=verify)


def _count_runs(out: Path) -> int:
    """A number that no checkpoint in that folder ends with, so that none is in the way of another run."""
    names = (CheckpointName.parse(path.name) for path in out.iterdir())
    return 1 + max((name.lease_epoch for name in names if name is not None), default=-1)


def _parse_overrides(pairs: list[str]) -> dict[str, Any]:
    """`epochs=3` and `flip=false` as a dictionary; a value that is no JSON is text."""
    overrides: dict[str, Any] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        try:
            overrides[name] = json.loads(text)
        except ValueError:
            overrides[name] = text
    return overrides


def _count(text: str) -> int:
    """A number from 0, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def _seconds(text: str) -> float:
    """A time that can pass, for argparse."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds over 0")
    return seconds


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m alexnet_core", description="Train AlexNet without any service.")
    commands = parser.add_subparsers(required=True)
    train = commands.add_parser("train", help="train on a built-in dataset or a folder of images")
    train.add_argument("--recipe", default=None, help="a named configuration; the dataset's default if left out")
    train.add_argument("--override", action="append", default=[], metavar="FIELD=VALUE", help="may be repeated")
    train.add_argument("--seed", type=_count, default=None, help="the same seed gives the same weights; 0 if left out")
    train.add_argument("--out", type=Path, default=None, help="where checkpoints go")
    train.add_argument("--resume", type=Path, default=None, metavar="CHECKPOINT", help="go on from here")
    train.add_argument(
        "--init-from", type=Path, default=None, metavar="CHECKPOINT", help="begin with its weights alone"
    )
    train.add_argument(
        "--max-runtime-s", type=_seconds, default=None, metavar="S", help="of training, before --resume too; then save"
    )
    train.add_argument("--device", default="cpu", help="cpu, cuda, or two with a comma between, a tower on each")
    train.add_argument("--towers", action="store_true", help="half of the network in each of torchrun's two processes")
    train.set_defaults(run=_train)
    evaluate = commands.add_parser("evaluate", help="loss and accuracy of a checkpoint")
    evaluate.add_argument("checkpoint", type=Path)
    evaluate.add_argument("--split", choices=("train", "validation", "test"), default="test")
    evaluate.add_argument("--crops", type=int, choices=(1, 10), default=None, help="the checkpoint's own if left out")
    evaluate.add_argument("--hardest", type=_count, default=10, metavar="N", help="name so many of the hardest images")
    evaluate.add_argument("--report", type=Path, default=None, metavar="FILE", help="write everything as JSON too")
    evaluate.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute")
    evaluate.set_defaults(run=_evaluate)
    predict = commands.add_parser("predict", help="classify image files")
    predict.add_argument("checkpoint", type=Path)
    predict.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    predict.add_argument("--top-k", type=_count, default=5, help="classes to name")
    predict.set_defaults(run=_predict)
    pictures.add_commands(commands)
    add_commands(commands, _parse_overrides)
    for command in (train, evaluate):
        command.add_argument(
            "--dataset", required=True, help="a built-in dataset, a folder of class folders, or a pack"
        )
        command.add_argument("--source", type=Path, default=None, help="a built-in dataset's published files")
        command.add_argument("--data-dir", type=Path, default=_DEFAULT_DATA_DIR, help="where packs are kept")
    for name, text in (("prepare", "make a dataset's pack"), ("trainer", "serve one job of a worker")):
        commands.add_parser(name, help=text, add_help=False)
    return parser


if __name__ == "__main__":
    sys.exit(main())
