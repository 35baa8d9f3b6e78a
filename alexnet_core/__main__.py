"""The command line: `python -m alexnet_core train|evaluate|predict|prepare|trainer`."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alexnet_core.errors import CoreError

if TYPE_CHECKING:
    from alexnet_core.checkpoint import SavedCheckpoint
    from alexnet_core.pack import Pack

_DEFAULT_DATA_DIR = Path("data")


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    command = argv[0] if argv else ""
    if command == "prepare":
        from alexnet_core import preparation

        return preparation.main(argv[1:])
    if command == "trainer":
        from alexnet_core import trainer

        return trainer.main(argv[1:])
    options = _build_parser().parse_args(argv)
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO)
    try:
        status: int = options.run(options)
    except CoreError as exc:
        print(f"{exc.code}: {exc}", file=sys.stderr)
        return 1
    return status


class ConsoleHooks:
    """Prints a readable line an epoch; Ctrl-C stops the run after the current step."""

    def __init__(self) -> None:
        self._stopping = False
        signal.signal(signal.SIGINT, self._stop)

    def _stop(self, *_: Any) -> None:
        if self._stopping:
            sys.exit(130)
        self._stopping = True
        print("stopping after this step; again to stop at once", file=sys.stderr)

    def on_started(self, report: dict[str, Any]) -> None:
        """See `training.Hooks`."""
        print(f"training on {report['device']}, steps {report['step']} to {report['steps']}")

    def on_first_step(self) -> None:
        """See `training.Hooks`."""

    def on_progress(self, report: dict[str, Any]) -> None:
        """See `training.Hooks`."""

    def on_interval(self, report: dict[str, Any]) -> None:
        """See `training.Hooks`."""

    def on_epoch(self, epoch: int, step: int, metrics: dict[str, float]) -> None:
        """See `training.Hooks`."""
        print(
            f"epoch {epoch:4d}  train loss {metrics['train_loss']:.4f}  val loss {metrics['val_loss']:.4f}  "
            f"val top-1 {metrics['val_top1']:.2%}  {metrics['seconds']:.1f} s",
            flush=True,
        )

    def on_checkpoint(self, kind: str, saved: SavedCheckpoint, metadata: dict[str, Any], is_best: bool) -> None:
        """See `training.Hooks`."""

    def on_warning(self, code: str, message: str) -> None:
        """See `training.Hooks`."""
        print(f"warning {code}: {message}", file=sys.stderr)

    def should_stop(self) -> bool:
        """See `training.Hooks`."""
        return self._stopping


def _train(options: argparse.Namespace) -> int:
    from alexnet_core.builtin import BUILTINS
    from alexnet_core.checkpoint import load_checkpoint
    from alexnet_core.recipes import resolve
    from alexnet_core.training import Run, RunSpec

    pack = _open_dataset(options)
    recipe, config = resolve(options.recipe, _parse_overrides(options.override), BUILTINS[options.dataset].facts)
    seed, lease_epoch = options.seed, 0
    if options.resume is not None:
        checkpoint = load_checkpoint(options.resume)
        recipe, config, seed = "resumed", checkpoint.config, checkpoint.metadata["seed"]
        lease_epoch = checkpoint.metadata["lease_epoch"] + 1
    out = options.resume.parent if options.resume and options.out is None else options.out or Path("checkpoints")
    print(f"{options.dataset}, recipe {recipe}, seed {seed}, checkpoints in {out}")
    spec = RunSpec(config, pack, seed, out, lease_epoch=lease_epoch, resume_from=options.resume)
    result = Run(spec, ConsoleHooks()).train()
    if result.outcome == "stopped":
        print(
            f"stopped at step {result.step}; go on with --dataset {options.dataset} --resume {result.last_checkpoint}"
        )
        return 130
    if result.test is not None:
        print(f"test accuracy {result.test['top1']:.2%} on {result.test['num_images']} images")
    print(f"weights {result.weights_sha256}")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from alexnet_core.checkpoint import load_checkpoint
    from alexnet_core.evaluate import evaluate
    from alexnet_core.model import build_model

    checkpoint = load_checkpoint(options.checkpoint)
    model = build_model(checkpoint.config, len(checkpoint.class_names), checkpoint.preprocessing.channels)
    model.load_state_dict(checkpoint.weights)
    print(json.dumps(evaluate(model, _open_dataset(options), options.split, checkpoint.preprocessing)))
    return 0


def _predict(options: argparse.Namespace) -> int:
    from alexnet_core.images import decode_image
    from alexnet_core.predictor import Predictor

    predictor = Predictor.load(options.checkpoint)
    for path in options.images:
        [predictions] = predictor.predict([decode_image(path.read_bytes())], options.top_k)
        print(f"{path}  " + "  ".join(f"{p.label} {p.probability:.1%}" for p in predictions))
    return 0


def _open_dataset(options: argparse.Namespace) -> Pack:
    from alexnet_core.builtin import BUILTINS, prepare
    from alexnet_core.errors import DatasetUnavailable
    from alexnet_core.pack import open_pack

    if options.dataset not in BUILTINS:
        raise DatasetUnavailable(f"there is no dataset {options.dataset!r}: use one of {', '.join(sorted(BUILTINS))}")
    target = options.data_dir / options.dataset
    if (target / "pack.json").is_file():
        return open_pack(target)
    return prepare(options.dataset, source_dir=None, target_dir=target)


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


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m alexnet_core", description="Train AlexNet without any service.")
    commands = parser.add_subparsers(required=True)
    train = commands.add_parser("train", help="train on a built-in dataset")
    train.add_argument("--recipe", default=None, help="a named configuration; the dataset's default if left out")
    train.add_argument("--override", action="append", default=[], metavar="FIELD=VALUE", help="may be repeated")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--out", type=Path, default=None, help="where checkpoints go")
    train.add_argument("--resume", type=Path, default=None, metavar="CHECKPOINT", help="go on from here")
    train.set_defaults(run=_train)
    evaluate = commands.add_parser("evaluate", help="loss and accuracy of a checkpoint")
    evaluate.add_argument("checkpoint", type=Path)
    evaluate.add_argument("--split", choices=("train", "validation", "test"), default="test")
    evaluate.set_defaults(run=_evaluate)
    predict = commands.add_parser("predict", help="classify image files")
    predict.add_argument("checkpoint", type=Path)
    predict.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    predict.add_argument("--top-k", type=int, default=5)
    predict.set_defaults(run=_predict)
    for command in (train, evaluate):
        command.add_argument("--dataset", required=True)
        command.add_argument("--data-dir", type=Path, default=_DEFAULT_DATA_DIR, help="where packs are kept")
    for name, text in (("prepare", "make a dataset's pack"), ("trainer", "serve one job of a worker")):
        commands.add_parser(name, help=text, add_help=False)
    return parser


if __name__ == "__main__":
    sys.exit(main())
