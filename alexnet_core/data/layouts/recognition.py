"""Recognises the layout of a folder or archive: how the class of each image is given. Torch-free."""

from __future__ import annotations

from alexnet_core.data.layouts import imagenet
from alexnet_core.data.layouts.folders import read_layout
from alexnet_core.data.layouts.labelled_files import LabelledFiles
from alexnet_core.data.sources import Source


def recognise(source: Source) -> LabelledFiles:
    """Find out the class and split of each image in a source.

    Raises:
        DatasetInvalid: the layout is unclear or contradicts itself.
    """
    if imagenet.is_published(source):
        return imagenet.read_published(source)
    return read_layout(source.paths)
