"""Recognises the layout of a folder or archive: how the class of each image is given. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass

from alexnet_core.data.image_readers import ArrayImages
from alexnet_core.data.layouts import imagenet
from alexnet_core.data.layouts.folders import read_layout
from alexnet_core.data.layouts.image_arrays import read_arrays
from alexnet_core.data.layouts.labelled_files import LabelledFiles
from alexnet_core.data.layouts.manifests import read_manifests
from alexnet_core.data.sources import Source


@dataclass(frozen=True)
class Recognised:
    """The images of a source, with their classes and splits."""

    files: LabelledFiles
    arrays: ArrayImages | None = None  #: the images; None: each is a file of the source


def recognise(source: Source) -> Recognised:
    """Find out the class and split of each image in a source.

    The first of these that is there counts: ImageNet as published, CIFAR's batches, IDX files, a manifest, class
    folders.

    Raises:
        DatasetInvalid: the layout is unclear or contradicts itself.
    """
    if imagenet.is_published(source):
        return Recognised(imagenet.read_published(source))
    if (found := read_arrays(source)) is not None:
        return Recognised(*found)
    return Recognised(read_manifests(source) or read_layout(source.paths))
