"""What clients are told of the child's answers."""

from __future__ import annotations

import pytest

from alexnet_core import errors as core
from alexnet_core.insight import protocol
from alexnet_core.insight.protocol import Answer
from api.insight.child_process import ChildEnded
from api.insight.refusals import explain_end, is_damage, refuse


@pytest.mark.parametrize(
    ("code", "status", "told"),
    [
        (protocol.BAD_REQUEST, 422, "invalid_request"),
        (protocol.NO_MEMORY, 503, "insight_failed"),
        (protocol.NOT_CALIBRATED, 404, "calibration_not_found"),
        (protocol.OTHER_CLASSES, 409, "dataset_differs"),
        (protocol.NO_INDEX, 503, "insight_in_progress"),
        (core.ImageTooLarge.code, 413, "image_too_large"),
        (core.ImageFormatUnsupported.code, 415, "image_format_unsupported"),
        (core.ImageUnreadable.code, 422, "image_unreadable"),
        (core.CheckpointIncompatible.code, 409, "checkpoint_incompatible"),
        (core.DatasetDamaged.code, 409, "dataset_not_ready"),
        (protocol.BROKEN, 500, "internal_error"),
        ("something new", 500, "internal_error"),
    ],
)
def test_every_code_has_an_error(code: str, status: int, told: str) -> None:
    error = refuse(Answer(code=code, message="a path /work/secret", param="x"))
    assert (error.status, error.code) == (status, told)
    if status == 503:
        assert error.retry_after_s
    if status in {500, 503} or told == "checkpoint_incompatible":
        assert "/work/secret" not in error.message


def test_only_a_damaged_checkpoint_is_damage() -> None:
    assert is_damage(Answer(code=core.CheckpointCorrupt.code))
    assert not is_damage(Answer())


def test_the_end_of_a_child_says_why() -> None:
    assert "too long: ask again when" in explain_end(ChildEnded(too_slow=True)).message
    assert "ended" in explain_end(ChildEnded(too_slow=False)).message
    assert "no room" in explain_end(None).message
