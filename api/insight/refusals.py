"""Turns what the child process answers into the errors that clients are told."""

from __future__ import annotations

import logging

from alexnet_core import errors as core
from alexnet_core.insight import protocol
from alexnet_core.insight.protocol import Answer
from api.insight.child_process import ChildEnded
from trainyard.errors import (
    CheckpointIncompatible,
    DatasetNotReady,
    ImageTooLarge,
    InvalidImage,
    InvalidRequest,
    ServiceError,
    UnsupportedImageFormat,
)
from trainyard.insight_errors import CalibrationNotFound, DatasetDiffers, InsightFailed, InsightInProgress

log = logging.getLogger(__name__)


def is_damage(answer: Answer) -> bool:
    """Whether the child found the checkpoint damaged."""
    return answer.code == core.CheckpointCorrupt.code


def refuse(answer: Answer) -> ServiceError:
    """Return the error for an answer with a code."""
    match answer.code:
        case protocol.BAD_REQUEST:
            return InvalidRequest(answer.message, param=answer.param)
        case protocol.NO_MEMORY:
            return InsightFailed(
                "the computation takes more memory than it may (TRAINYARD_INSIGHT_MEMORY_BYTES): "
                "try another method, or a smaller network",
                retry_after_s=60,
            )
        case protocol.NOT_CALIBRATED:
            return CalibrationNotFound(f"the checkpoint has no calibration: {answer.message}", param="checkpoint_id")
        case protocol.OTHER_CLASSES:
            return DatasetDiffers(param="model")
        case protocol.NO_INDEX:
            return InsightInProgress("the index of similar images was just removed: ask again", retry_after_s=1)
        case core.ImageTooLarge.code:
            return ImageTooLarge(answer.message, param="file")
        case core.ImageFormatUnsupported.code:
            return UnsupportedImageFormat(answer.message, param="file")
        case core.ImageUnreadable.code | core.ImageError.code:
            return InvalidImage(answer.message, param="file")
        case core.CheckpointIncompatible.code:
            return CheckpointIncompatible(param="model")
        case core.DatasetUnavailable.code | core.DatasetDamaged.code:
            return DatasetNotReady("the dataset's files are missing or damaged: add the dataset again")
    log.error("insight failed: %s: %s", answer.code, answer.message)
    return ServiceError()


def explain_end(ended: ChildEnded | None) -> InsightFailed:
    """Return the error for a child that ended. None: it could not be started."""
    if ended is None:
        return InsightFailed("there is no room for a process to compute it just now: try again", retry_after_s=5)
    if ended.too_slow:
        return InsightFailed(
            "the computation took too long: ask again when this machine has less to do (the first request also loads "
            "PyTorch), or try another method",
            retry_after_s=30,
        )
    return InsightFailed(
        "the process that computes it ended, perhaps for want of memory: try again, or another method", retry_after_s=5
    )
