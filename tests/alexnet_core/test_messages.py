"""What worker and trainer tell each other comes over as it was sent, or not at all."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alexnet_core.insight.calibration import calibrate
from alexnet_core.layout import CheckpointKind
from alexnet_core.messages import (
    Alive,
    Calibrated,
    CheckpointSaved,
    EpochEnd,
    Failed,
    Finished,
    FirstStep,
    Heartbeat,
    Interval,
    MalformedMessage,
    Message,
    Outcome,
    Phase,
    Progress,
    Ready,
    Spec,
    Started,
    Stop,
    StopReason,
    StoredFile,
    Warned,
    parse_command,
    parse_report,
)
from tests.alexnet_core.toy import CONFIG

PLACE: dict[str, Any] = {"epoch": 1, "epochs": 3, "step": 9, "steps": 21, "fraction": 9 / 21}
ENVIRONMENT = {"torch": "2.13", "num_threads": 2, "towers": None, "odd": [1, 2.5]}
COMMANDS: list[Message] = [
    Spec(job_id="job_1", lease_epoch=3, seed=2**63 - 1, config=CONFIG, pack_dir=Path("/p"), checkpoint_root=Path("/c")),
    Stop(reason=StopReason.DRAIN),
    Heartbeat(),
]
REPORTS: list[Message] = [
    Ready(),
    Alive(job_id="job_1", lease_epoch=2),
    Phase(reason="waiting_for_device"),
    Started(
        **PLACE, steps_per_epoch=7, device="cpu", environment=ENVIRONMENT, precision_reason="as the config says",
        bit_exact=False, started_anew=["fc8"],
        resumed_from="/c/epoch-00000007-e1",
    ),
    FirstStep(),
    Progress(**PLACE, images_per_s=1e3 / 3, eta_s=math.inf),
    Interval(
        epoch=0, step=5, train_loss=0.1, lr=0.1 + 0.2, images_per_s=7.0, seconds=1.5, gradient_norm=math.inf,
        dead_relu=0.0,
    ),
    EpochEnd(epoch=1, step=7, metrics={"val_top1": 0.5, "val_loss": -math.inf}),
    CheckpointSaved(
        kind=CheckpointKind.EPOCH, path=Path("/c/epoch-00000007-e1"), epoch=1, step=7, metrics=None,
        files={"config.json": StoredFile(sha256="a" * 64, size=9)}, size_bytes=9, weights_sha256="b" * 64,
        manifest_sha256="c" * 64, is_best=True,
    ),
    Calibrated(
        weights_sha256="b" * 64,
        calibration=calibrate(np.eye(20), np.arange(20), "validation"),
    ),
    Warned(code="disk_full", message="a line\nand “another”"),
    Finished(
        outcome=Outcome.SUCCEEDED, step=21, epoch=3, weights_sha256="d" * 64,
        test={"top1": 0.5, "num_images": 9, "chosen_on": "none"},
    ),
    Failed(code="diverged", message="lower lr"),
]  # fmt: skip


@pytest.mark.parametrize("message", COMMANDS + REPORTS, ids=lambda message: message.type)
def test_a_message_comes_over_as_one_line_and_as_it_was_sent(message: Message) -> None:
    line = message.to_line()
    assert line.count(b"\n") == 1
    assert line.startswith(b'{"type":')
    parse = parse_command if message in COMMANDS else parse_report
    heard = parse(line)
    assert heard == message
    assert heard.to_line() == line


def test_every_message_is_tried_here() -> None:
    def kinds(of: Any) -> set[type]:
        return {kind for base in of.__subclasses__() for kind in {base} | kinds(base)}

    assert {type(message) for message in COMMANDS + REPORTS} == {
        k for k in kinds(Message) if "type" in k.__annotations__ and k.__module__ == Message.__module__
    }


def test_a_number_that_json_has_no_word_for_is_told_as_it_is() -> None:
    heard = parse_report(EpochEnd(epoch=1, step=7, metrics={"val_loss": math.nan, "count": 7}).to_line())
    assert isinstance(heard, EpochEnd)
    assert math.isnan(heard.metrics["val_loss"])
    assert type(heard.metrics["count"]) is int, "a count stays a whole number where it is shown"


@pytest.mark.parametrize(
    "line", [b"", b"\n", b"{", b"null", b"7", b"{}", b'{"type": "stop"}', b'{"type": null}', b"\xff"]
)
def test_what_is_no_message_is_refused_in_one_line(line: bytes) -> None:
    for parse in (parse_command, parse_report):
        with pytest.raises(MalformedMessage) as refused:
            parse(line)
        assert str(refused.value).count("\n") == 0


@pytest.mark.parametrize(
    ("line", "trouble"),
    [
        (b"half a mess\n", "Invalid JSON"),
        (b'{"type": "spec", "job_id": "job_1"}\n', "spec.lease_epoch: Field required"),
        (b'{"type": "lesson"}\n', "lesson"),
    ],
)
def test_what_is_wrong_with_a_command_is_told(line: bytes, trouble: str) -> None:
    with pytest.raises(MalformedMessage) as refused:
        parse_command(line)
    assert trouble in str(refused.value)


@pytest.mark.parametrize("outcome", [Outcome.SUCCEEDED, Outcome.MAX_RUNTIME])
def test_a_run_that_came_to_its_end_says_where(outcome: Outcome) -> None:
    with pytest.raises(ValueError, match="weights_sha256"):
        Finished(outcome=outcome, step=1, epoch=0)
    assert Finished(outcome=Outcome.STOPPED).step is None


def test_a_config_of_another_version_is_refused_in_a_spec() -> None:
    told = json.loads(COMMANDS[0].to_line())
    told["config"]["dreams"] = True
    with pytest.raises(MalformedMessage, match=r"config\.dreams"):
        parse_command(json.dumps(told).encode())
