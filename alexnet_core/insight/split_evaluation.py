"""Turns a network's answers for a split into an evaluation like that at the end of a job. Torch-free."""

from __future__ import annotations

from typing import Literal

from alexnet_core.data.inspection.selection import describe
from alexnet_core.data.pack import Pack
from alexnet_core.evaluation.confusion import list_confused, rate_classes
from alexnet_core.evaluation.job_evaluation import MAX_MATRIX_CLASSES, HardestImage, JobEvaluation
from alexnet_core.insight.split_answers import SplitAnswers

MAX_COUNTED_CLASSES = 1000  #: the counts of pairs take 8 MB then
NO_SEARCH = "labels are checked at the end of a job, with its best checkpoint"
_NUM_HARDEST = 20


def evaluate_answers(
    answers: SplitAnswers,
    pack: Pack,
    *,
    epoch: int,
    weights_sha256: str,
    chosen_on: Literal["validation", "test", "none"],
) -> JobEvaluation:
    """Build the evaluation.

    Args:
        answers: of a checkpoint.
        pack: the dataset.
        epoch: of the checkpoint.
        weights_sha256: of the checkpoint.
        chosen_on: the split that chose the job's best epoch.
    """
    names, num = pack.class_names, len(answers.labels)
    counts_KK = answers.count_pairs(len(names)) if num and len(names) <= MAX_COUNTED_CLASSES else None
    rows = answers.select(label=None, predicted=None, order="loss")[:_NUM_HARDEST]
    return JobEvaluation(
        epoch=epoch,
        weights_sha256=weights_sha256,
        chosen_on=chosen_on,
        validated_on_test=chosen_on == "test",
        num_images=num,
        loss=answers.loss if num else None,
        top1=answers.top(1) if num else None,
        top5=answers.top(5) if num else None,
        classes=[] if counts_KK is None else rate_classes(names, counts_KK),
        confusion=counts_KK.tolist() if counts_KK is not None and len(names) <= MAX_MATRIX_CLASSES else None,
        confused=[] if counts_KK is None else list_confused(names, counts_KK),
        hardest=tuple(name_images(answers, pack, rows.tolist())),
        label_errors=None,
        label_errors_missing=NO_SEARCH,
    )


def name_images(answers: SplitAnswers, pack: Pack, rows: list[int]) -> list[HardestImage]:
    """Describe answered images: where they are, and how they were answered.

    Raises:
        OSError: the names of their files can't be read just now.
    """
    places = describe(pack, answers.positions[rows])
    return [
        HardestImage(
            **vars(place), loss=float(answers.losses[row]), predictions=answers.list_guesses(row, pack.class_names)
        )
        for place, row in zip(places, rows, strict=True)
    ]
