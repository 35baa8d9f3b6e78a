"""What a client is told about an image that can't be used."""

from __future__ import annotations

from alexnet_core import errors as core
from trainyard.errors import ImageTooLarge, InvalidImage, ServiceError, UnsupportedImageFormat


def refuse_image(error: core.ImageError) -> ServiceError:
    """Return the refusal of an image that was sent."""
    if isinstance(error, core.ImageTooLarge):
        return ImageTooLarge(str(error), param="file")
    if isinstance(error, core.ImageFormatUnsupported):
        return UnsupportedImageFormat(str(error), param="file")
    return InvalidImage(str(error), param="file")
