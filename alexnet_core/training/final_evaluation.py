"""Evaluates a run's best checkpoint in detail at its end: its answers, its probabilities, and labels likely wrong.

The run's result is known before and does not depend on it: whatever goes wrong here becomes a warning, and nothing is
drawn from the run's random streams. It is begun once: if an attempt was lost in the middle of it (killed for its
memory, say), the next one leaves it out.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from alexnet_core.data.inspection.selection import describe
from alexnet_core.evaluation.confident_learning import NothingToCheck
from alexnet_core.evaluation.confusion import list_confused, rate_classes
from alexnet_core.evaluation.job_evaluation import (
    MAX_MATRIX_CLASSES,
    HardestImage,
    JobEvaluation,
    LabelErrors,
    Record,
    append_record,
)
from alexnet_core.evaluation.label_errors import Bounds, find_label_errors
from alexnet_core.evaluation.report import Tally
from alexnet_core.evaluation.scores import EvaluationReport
from alexnet_core.failpoints import EVALUATION, Failpoints
from alexnet_core.insight.calibration import NotCalibrated
from alexnet_core.insight.held_out_logits import calibrate_network
from alexnet_core.network.checkpoint import weights_sha256

if TYPE_CHECKING:
    from alexnet_core.data.pack import Pack
    from alexnet_core.network.model import AlexNet
    from alexnet_core.training.reporter import Reporter
    from alexnet_core.training.run_spec import RunSpec, Setting

log = logging.getLogger(__name__)

FAILED, CUT_OFF = "evaluation_failed", "evaluation_cut_off"
_MAX_TALLIED_CLASSES = 1000  # the counts of pairs take 8 MB then
_TOLD_AFTER_S = 2.0


class Stopped(Exception):
    """The run was told to stop."""


@dataclass(frozen=True)
class Tested:
    """The network that a run was tested with."""

    model: AlexNet
    epoch: int | None  #: whose checkpoint it is; None: it is the last one, as the best is gone


class TestWatch:
    """Counts the answers to the test images while the test is computed. Trouble with it does not touch the test."""

    __test__ = False  # pytest must not collect it

    def __init__(self, pack: Pack) -> None:
        self._pack = pack
        self._tally = Tally(pack.class_names, 20) if len(pack.class_names) <= _MAX_TALLIED_CLASSES else None

    def __call__(self, positions_B: NDArray[np.int64], labels_B: Tensor, scores_BK: Tensor) -> None:
        """Count a batch."""
        if self._tally is None:
            return
        try:
            self._tally.add(positions_B, labels_B, scores_BK)
        except Exception:
            log.exception("the test goes on without its details")
            self._tally = None

    def report(self, crops: int) -> EvaluationReport | None:
        """Return what was counted. None: nothing was."""
        return None if self._tally is None else self._tally.report("test", cast("Literal[1, 10]", crops))


class FinalEvaluation:
    """The evaluation of a run that is done.

    Args:
        spec: of the run; its `evaluation_path` is where the evaluation goes.
        setting: of the run.
        reporter: is told of trouble, and asked whether to stop.
        bounds: what the search for wrong labels may cost.
        clock: seconds.
    """

    def __init__(
        self,
        spec: RunSpec,
        setting: Setting,
        reporter: Reporter,
        *,
        bounds: Bounds = Bounds(),  # noqa: B008 - it is frozen
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spec, self._setting, self._reporter = spec, setting, reporter
        self._bounds, self._clock = bounds, clock
        self._began_at, self._is_told = clock(), False

    def write(self, tested: Tested, test: Mapping[str, Any] | None, watch: TestWatch) -> bool:
        """Evaluate, and append the result to the file. Never raises.

        Args:
            tested: the network.
            test: the result of the test; None: there are no test images.
            watch: what was counted in the test.

        Returns:
            Whether it came to an end, however it ended. False: it was told to stop before.
        """
        path = self._spec.evaluation_path
        if path is None:
            return True
        if self._spec.evaluation_was_cut_off:
            self._reporter.warn(
                CUT_OFF,
                "an earlier attempt was lost while it evaluated the best checkpoint in detail, so it is left out; "
                "`python -m alexnet_core evaluate --label-errors` does it on the downloaded checkpoint",
            )
            return True
        self._began_at = self._clock()
        try:
            self._append(path, "begun")
            Failpoints(self._spec.failpoints).hit(EVALUATION)
            evaluation = self._evaluate(tested, test, watch)
            self._calibrate(tested.model, evaluation.weights_sha256)
            self._append(path, "done", evaluation)
        except Stopped:
            self._end(path)
            return False
        except Exception as exc:
            self._reporter.warn(FAILED, f"the best checkpoint is not evaluated in detail: {describe_error(exc)}")
            self._end(path)
        return True

    def _evaluate(self, tested: Tested, test: Mapping[str, Any] | None, watch: TestWatch) -> JobEvaluation:
        pack, setting = self._spec.pack, self._setting
        found = None if test is None else watch.report(setting.config.test_crops)
        errors, missing = self._look_for_errors(tested.model)
        return JobEvaluation(
            epoch=tested.epoch,
            weights_sha256=weights_sha256({k: v.cpu() for k, v in tested.model.state_dict().items()}),
            chosen_on=cast("Literal['validation', 'test', 'none']", setting.validate_on),
            validated_on_test=setting.validate_on == "test",
            num_images=0 if test is None else int(test["num_images"]),
            loss=None if test is None else float(test["loss"]),
            top1=None if test is None else float(test["top1"]),
            top5=None if test is None else float(test["top5"]),
            classes=[] if found is None else rate_classes(found.class_names, _count_pairs(found)),
            confusion=found.confusion if found and len(found.class_names) <= MAX_MATRIX_CLASSES else None,
            confused=[] if found is None else list_confused(found.class_names, _count_pairs(found)),
            hardest=() if found is None else _place_hardest(found, pack),
            label_errors=errors,
            label_errors_missing=missing,
        )

    def _calibrate(self, model: AlexNet, sha256: str) -> None:
        """Report how far the network's probabilities can be trusted, if there are images to tell it by."""
        setting = self._setting
        try:
            found = calibrate_network(
                model, self._spec.pack, setting.preprocessing,
                chosen_on=setting.validate_on, device=setting.device, check=self._check, clock=self._clock,
            )  # fmt: skip
        except NotCalibrated as exc:
            log.info("the network is not calibrated: %s", exc)
            return
        self._reporter.tell_calibration(sha256, found)

    def _look_for_errors(self, model: AlexNet) -> tuple[LabelErrors | None, str | None]:
        """Return the errors, or why there are none to be told."""
        try:
            found = find_label_errors(
                model, self._spec.pack, self._setting.preprocessing,
                device=self._setting.device, bounds=self._bounds, check=self._check, clock=self._clock,
            )  # fmt: skip
        except NothingToCheck as exc:
            return None, str(exc)
        return found, None

    def _check(self) -> None:
        """Send a sign that the trainer is at work; say once, where it takes long, at what.

        Raises:
            Stopped: it must stop.
        """
        if self._reporter.should_stop():
            raise Stopped
        if not self._is_told and self._clock() - self._began_at > _TOLD_AFTER_S:
            self._is_told = True
            self._reporter.tell_evaluating()

    def _append(
        self, path: Path, state: Literal["begun", "stopped", "done"], evaluation: JobEvaluation | None = None
    ) -> None:
        append_record(path, Record(state=state, lease_epoch=self._spec.lease_epoch, evaluation=evaluation))

    def _end(self, path: Path) -> None:
        """Leave a word that the attempt was not lost."""
        try:
            self._append(path, "stopped")
        except OSError as exc:
            log.warning("the evaluation can't be written: %s", exc)


def describe_error(exc: BaseException) -> str:
    """Return an error's first line, with its type where it is none of ours."""
    return f"{type(exc).__name__}: {(str(exc).splitlines() or [''])[0]}"


def _count_pairs(found: EvaluationReport) -> NDArray[np.int64]:
    return np.array(found.confusion, dtype=np.int64).reshape(len(found.class_names), -1)


def _place_hardest(found: EvaluationReport, pack: Pack) -> tuple[HardestImage, ...]:
    places = describe(pack, [image.position for image in found.hardest])
    return tuple(
        HardestImage(
            split="test", index=place.index, position=place.position, file=place.file, label=place.label,
            loss=image.loss, predictions=image.guesses,
        )
        for place, image in zip(places, found.hardest, strict=True)
    )  # fmt: skip
