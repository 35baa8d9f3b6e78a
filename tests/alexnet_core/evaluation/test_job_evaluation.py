"""The file of an evaluation: what an attempt leaves in it, and what can be read when it was cut off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet_core.evaluation.job_evaluation import (
    JobEvaluation,
    LabelErrors,
    Record,
    WrongLabel,
    append_record,
    parse_last_record,
    was_cut_off,
)


def evaluation(num_found: int = 1) -> JobEvaluation:
    image = WrongLabel(
        split="train", index=4, position=7, file="cats/ä.png", label="cats", suggested="dogs", confidence=0.75
    )
    errors = LabelErrors(
        method="m", num_images=9, num_checked=9, left_out=None, num_found=num_found, seconds=0.5, classes=[],
        images=(image,) * num_found,
    )  # fmt: skip
    return JobEvaluation(
        epoch=3, weights_sha256="a" * 64, chosen_on="validation", validated_on_test=False, num_images=0, loss=None,
        top1=None, top5=None, classes=[], confusion=None, confused=[], hardest=(), label_errors=errors,
    )  # fmt: skip


def test_what_is_appended_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "evaluations" / "job_1.jsonl"
    append_record(path, Record(state="begun", lease_epoch=1))
    append_record(path, Record(state="done", lease_epoch=1, evaluation=evaluation(1000)))
    record = parse_last_record(path.read_bytes())
    assert record is not None
    assert record.evaluation == evaluation(1000)
    assert [json.loads(line)["state"] for line in path.read_bytes().splitlines()] == ["begun", "done"]


@pytest.mark.parametrize(
    ("states", "expected"),
    [([], False), (["begun"], True), (["begun", "stopped"], False), (["begun", "done"], False),
     (["begun", "stopped", "begun"], True)],
)  # fmt: skip
def test_an_attempt_that_was_lost_in_the_middle_is_recognised(
    tmp_path: Path, states: list[str], expected: bool
) -> None:
    path = tmp_path / "job_1.jsonl"
    for state in states:
        append_record(path, Record.model_validate({"state": state, "lease_epoch": 1}))
    assert was_cut_off(path.read_bytes() if states else b"") is expected


def test_half_of_a_line_counts_as_lost(tmp_path: Path) -> None:
    path = tmp_path / "job_1.jsonl"
    append_record(path, Record(state="begun", lease_epoch=1))
    append_record(path, Record(state="done", lease_epoch=1, evaluation=evaluation()))
    half = path.read_bytes()[:-40]
    assert parse_last_record(half) is None
    assert was_cut_off(half)


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    os.symlink(tmp_path / "elsewhere", tmp_path / "job_1.jsonl")
    with pytest.raises(OSError, match="Too many levels"):
        append_record(tmp_path / "job_1.jsonl", Record(state="begun", lease_epoch=1))
    assert not (tmp_path / "elsewhere").exists()


def test_a_number_that_is_none_becomes_null() -> None:
    found = evaluation().model_copy(update={"loss": float("nan")})
    assert json.loads(found.model_dump_json())["loss"] is None


def test_reading_it_needs_no_torch() -> None:
    code = "import sys, alexnet_core.evaluation.job_evaluation; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
