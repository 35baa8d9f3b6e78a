"""The bodies that show what is in a dataset: its images and their counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import BaseModel

from alexnet_core.data.inspection.selection import ImagePlace
from api.schemas.base import DESCRIBED


class DatasetImageRead(BaseModel):
    """An image of a dataset."""

    model_config = DESCRIBED

    id: str
    """Its split and index: `train-17`."""
    object: Literal["dataset.image"] = "dataset.image"
    split: Literal["train", "validation", "test"]
    index: int
    """Its place among the images of its split, from 0."""
    position: int
    """Its place among all images of the dataset, from 0."""
    label: str
    """Name of its class."""
    file: str | None
    """The file that it was read from, as the folder or archive named it. Null: it is not known."""
    url: str
    """Path of the image as PNG."""

    @classmethod
    def of(cls, dataset_id: str, place: ImagePlace) -> Self:
        """Build the image as clients see it."""
        return cls.model_validate(
            {
                **vars(place),
                "id": f"{place.split}-{place.index}",
                "url": f"/datasets/{dataset_id}/images/{place.split}/{place.index}",
            }
        )


class ClassCountRead(BaseModel):
    """The number of images of a class."""

    model_config = DESCRIBED

    label: str
    """Name of the class."""
    index: int
    """The class's place among the dataset's classes, from 0."""
    train: int
    validation: int
    test: int
    total: int


class HistogramRead(BaseModel):
    """The number of images of each class, in the order of the classes."""

    model_config = DESCRIBED

    object: Literal["dataset.histogram"] = "dataset.histogram"
    dataset: str
    """Its id."""
    classes: list[ClassCountRead]
    train: int
    """Images of the training split, of all classes."""
    validation: int
    test: int
    total: int

    @classmethod
    def of(cls, dataset_id: str, class_names: Sequence[str], counts: Sequence[Sequence[int]]) -> Self:
        """Build the histogram from the images of each class in train, validation and test."""
        classes = [
            ClassCountRead(label=name, index=index, train=row[0], validation=row[1], test=row[2], total=sum(row))
            for index, (name, row) in enumerate(zip(class_names, counts, strict=True))
        ]
        train, validation, test = (sum(row[split] for row in counts) for split in range(3))
        return cls(
            dataset=dataset_id,
            classes=classes,
            train=train,
            validation=validation,
            test=test,
            total=train + validation + test,
        )
