"""The bodies of answers about why a network answers as it does, and how far it can be trusted."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel

from alexnet_core.evaluation.job_evaluation import HardestImage
from alexnet_core.insight.methods import Method, Split
from alexnet_core.insight.protocol import Similar
from alexnet_core.reliability import Calibration
from api.schemas.base import DESCRIBED
from api.schemas.predictions import LabelRead
from trainyard.database.tables import Checkpoint


class SubjectRead(BaseModel):
    """The checkpoint that an answer is about."""

    model_config = DESCRIBED

    checkpoint: str
    """Its id."""
    job: str
    """Id of the job that made it."""
    epoch: int
    """Number of complete epochs."""
    weights_sha256: str
    """Hash of its weights."""

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Self:
        """Name a checkpoint."""
        return cls(
            checkpoint=checkpoint.id,
            job=checkpoint.job_id,
            epoch=checkpoint.epoch,
            weights_sha256=checkpoint.weights_sha256,
        )


class ExplanationRead(BaseModel):
    """What in an image speaks for a class."""

    model_config = DESCRIBED

    object: Literal["explanation"] = "explanation"
    model: SubjectRead
    method: Method
    """How it was found."""
    target: LabelRead
    """The class that is explained."""
    predictions: list[LabelRead]
    """The five most probable classes."""
    picture: str
    """The PNG as a `data:` URL."""


class SimilarImageRead(BaseModel):
    """A training image that is like the image that was sent."""

    model_config = DESCRIBED

    split: Split
    index: int
    """Its place in the split, from 0."""
    position: int
    """Its place in the whole dataset, from 0."""
    label: str
    """Name of its class."""
    file: str | None
    """The file that it was read from. Null: the dataset does not know."""
    distance: float
    """Euclidean distance in the last hidden layer. 0: the same to the network."""
    url: str
    """Path of the image as PNG."""


class SimilarImagesRead(BaseModel):
    """The training images that are most like an image, to the network."""

    model_config = DESCRIBED

    object: Literal["similar_images"] = "similar_images"
    model: SubjectRead
    dataset: str
    """Id of the dataset that the images are in."""
    num_indexed: int
    """Training images that were compared: all, or 100,000 that were chosen at random."""
    images: list[SimilarImageRead]
    """The most alike first."""

    @classmethod
    def of(cls, model: SubjectRead, dataset_id: str, num_indexed: int, found: list[Similar]) -> Self:
        """Build the answer as clients see it."""
        images = [
            SimilarImageRead(**vars(one), url=f"/datasets/{dataset_id}/images/{one.split}/{one.index}") for one in found
        ]
        return cls(model=model, dataset=dataset_id, num_indexed=num_indexed, images=images)


class CalibrationRead(Calibration):
    """How far a checkpoint's probabilities can be trusted, and what corrects them."""

    object: Literal["checkpoint.calibration"] = "checkpoint.calibration"
    checkpoint: str
    """Its id."""
    job: str
    """Id of the job that made it."""


class EvaluatedImageRead(HardestImage):
    """An image of the evaluated split, and how it was answered."""

    id: str
    """Its split and index: `test-17`."""
    object: Literal["evaluation.image"] = "evaluation.image"
    url: str
    """Path of the image as PNG."""
