"""The body that shows how a job's best checkpoint does, and which labels are likely wrong."""

from __future__ import annotations

from typing import Any, Literal, Self

from alexnet_core.evaluation.job_evaluation import HardestImage, JobEvaluation, LabelErrors, NamedImage, WrongLabel
from alexnet_core.insight.methods import Split


class HardestImageRead(HardestImage):
    """A test image whose true class got a low probability."""

    url: str
    """Path of the image as PNG."""


class WrongLabelRead(WrongLabel):
    """An image whose label is likely wrong."""

    url: str
    """Path of the image as PNG."""


class LabelErrorsRead(LabelErrors):
    """Training images whose label is likely wrong."""

    images: tuple[WrongLabelRead, ...]
    """The first thousand, the most certain first."""


class EvaluationRead(JobEvaluation):
    """How a job's best checkpoint does on the test images, and which training images' labels are likely wrong."""

    object: Literal["job.evaluation"] = "job.evaluation"
    job: str
    """Its id."""
    dataset: str
    """Id of the dataset that the images are in."""
    checkpoint: str | None
    """Id of the checkpoint that was evaluated. Null: it is not kept any more."""
    split: Split
    """The images that it was evaluated on, to which `num_images` to `hardest` refer."""
    hardest: tuple[HardestImageRead, ...]
    """The test images with the highest loss, highest first."""
    label_errors: LabelErrorsRead | None
    """Training images whose label is likely wrong. Null: they were not looked for; `label_errors_missing` says why."""

    @classmethod
    def of(
        cls, job_id: str, dataset_id: str, found: JobEvaluation, *, checkpoint_id: str | None, split: Split = "test"
    ) -> Self:
        """Build the evaluation as clients see it."""
        errors = found.label_errors
        values: dict[str, Any] = found.model_dump(exclude={"hardest", "label_errors"})
        shown = None
        if errors is not None:
            shown = errors.model_dump(exclude={"images"}) | {"images": [_show(dataset_id, it) for it in errors.images]}
        hardest = [_show(dataset_id, image) for image in found.hardest]
        return cls.model_validate(
            {
                **values, "job": job_id, "dataset": dataset_id, "checkpoint": checkpoint_id, "split": split,
                "hardest": hardest, "label_errors": shown,
            }
        )  # fmt: skip


def _show(dataset_id: str, image: NamedImage) -> dict[str, Any]:
    return image.model_dump() | {"url": f"/datasets/{dataset_id}/images/{image.split}/{image.index}"}
