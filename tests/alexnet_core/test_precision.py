"""The choice of a precision, at the beginning of a run and when it goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from alexnet_core import precision
from alexnet_core.cpu_speed import CpuSpeed
from alexnet_core.errors import ConfigError
from alexnet_core.messages import Started
from alexnet_core.network.checkpoint_files import read_metadata
from alexnet_core.precision import choose_precision
from alexnet_core.training.loop import Run
from alexnet_core.training.run_spec import RunSpec
from tests.alexnet_core.toy import CONFIG, QuietHooks, write_toy_pack

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def be_a_cpu(monkeypatch: pytest.MonkeyPatch, bf16: float) -> None:
    """Have bf16 measured as that many times as fast as fp32."""
    speed = CpuSpeed(cpu="made up", torch="0", relative={"fp32": 1.0, "bf16": bf16})
    monkeypatch.setattr(precision, "get_cpu_speed", lambda folder: speed)


def be_a_gpu(monkeypatch: pytest.MonkeyPatch, *, has_bf16: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16 or including_emulation)


@pytest.mark.parametrize(
    ("bf16", "name", "reason"),
    [
        (1.94, "bf16", "1.9 times as fast as fp32 on this CPU"),
        (1.04, "fp32", "bf16 is hardly faster on this CPU (1 times as fast as fp32)"),
        (0.52, "fp32", "bf16 is slower on this CPU (0.52 times as fast as fp32)"),
    ],
)
def test_auto_is_what_was_measured_to_be_faster(
    bf16: float, name: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_a_cpu(monkeypatch, bf16)
    chosen = choose_precision("auto", CPU)
    assert (chosen.name, chosen.reason) == (name, reason)


def test_what_the_cpu_says_of_itself_counts_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": True})
    be_a_cpu(monkeypatch, 0.5)
    assert choose_precision("auto", CPU).name == "fp32"


def test_what_the_config_says_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "get_cpu_speed", None)
    assert choose_precision("fp32", CPU).name == "fp32"
    assert choose_precision("bf16", CPU, begun_in="fp32").name == "bf16"
    assert choose_precision("fp16", GPU).name == "fp16"
    with pytest.raises(ConfigError, match="needs a GPU"):
        choose_precision("fp16", CPU)


@pytest.mark.parametrize(
    ("bf16", "begun_in", "name", "reason"),
    [
        (1.9, "fp32", "fp32", "the run began in it"),
        (0.5, "bf16", "bf16", "the run began in it"),
        (0.01, "bf16", "fp32", "in which the run began, is 100 times slower"),
        (4.0, "fp32", "bf16", "in which the run began, is 4 times slower"),
        (1.9, "fp16", "bf16", "the run began in fp16, which needs a GPU"),
        (0.5, "fp16", "fp32", "the run began in fp16, which needs a GPU"),
    ],
)
def test_a_run_that_goes_on_keeps_its_precision_where_the_cpu_can(
    bf16: float, begun_in: str, name: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_a_cpu(monkeypatch, bf16)
    chosen = choose_precision("auto", CPU, begun_in=begun_in)
    assert chosen.name == name
    assert reason in chosen.reason


@pytest.mark.parametrize(
    ("has_bf16", "begun_in", "name"),
    [
        (True, None, "bf16"),
        (False, None, "fp32"),  # torch says that it "supports" bf16: it emulates it
        (True, "fp32", "fp32"),
        (False, "bf16", "fp32"),
        (False, "fp16", "fp16"),
    ],
)
def test_a_gpu_takes_bf16_where_it_has_instructions(
    has_bf16: bool, begun_in: str | None, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_a_gpu(monkeypatch, has_bf16=has_bf16)
    assert choose_precision("auto", GPU, begun_in=begun_in).name == name


class Listener(QuietHooks):
    """Keeps what is told at the start, and the warnings' sentences."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__(stop_after)
        self.started: Started | None = None
        self.told: dict[str, str] = {}

    def on_started(self, report: Started) -> None:
        self.started = report

    def on_warning(self, code: str, message: str) -> None:
        self.told[code] = message


def begun(hooks: Listener) -> Started:
    assert hooks.started is not None
    return hooks.started


def stop_in_bf16(monkeypatch: pytest.MonkeyPatch, folder: Path) -> RunSpec:
    """The spec to go on with a run that began where bf16 is fast, and was stopped in its first epoch."""
    be_a_cpu(monkeypatch, 1.9)
    config = CONFIG.with_overrides({"precision": "auto", "epochs": 1})
    pack, hooks = write_toy_pack(folder / "pack"), Listener(stop_after=2)
    result = Run(RunSpec(config, pack, 1, folder / "run"), hooks).train()
    assert result.last_checkpoint is not None
    assert begun(hooks).environment["precision"] == "bf16"
    assert begun(hooks).precision_reason == "1.9 times as fast as fp32 on this CPU"
    assert read_metadata(result.last_checkpoint)["environment"]["precision"] == "bf16"
    return RunSpec(config, pack, 1, folder / "run", lease_epoch=1, resume_from=result.last_checkpoint)


@pytest.mark.usefixtures("one_thread")
def test_a_run_keeps_its_precision_on_a_machine_that_would_choose_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_config = CONFIG.with_overrides({"precision": "bf16", "epochs": 1})
    whole = Run(RunSpec(whole_config, write_toy_pack(tmp_path / "whole"), 1, tmp_path / "one"), QuietHooks()).train()
    spec = stop_in_bf16(monkeypatch, tmp_path)
    be_a_cpu(monkeypatch, 0.5)
    hooks = Listener()
    result = Run(spec, hooks).train()
    assert begun(hooks).environment["precision"] == "bf16"
    assert hooks.told == {}, "nothing is another"
    assert result.weights_sha256 == whole.weights_sha256


@pytest.mark.usefixtures("one_thread")
def test_a_run_that_cannot_keep_its_precision_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = stop_in_bf16(monkeypatch, tmp_path)
    be_a_cpu(monkeypatch, 0.02)
    hooks = Listener()
    result = Run(spec, hooks).train()
    assert (result.outcome, begun(hooks).environment["precision"]) == ("succeeded", "fp32")
    assert not begun(hooks).bit_exact
    assert "bf16, in which the run began, is 50 times slower" in begun(hooks).precision_reason
    assert "precision: bf16 before, fp32 now" in hooks.told["resume_not_bit_exact"]
    assert result.last_checkpoint is not None
    assert read_metadata(result.last_checkpoint)["environment"]["precision"] == "fp32"
