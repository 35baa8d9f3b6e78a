"""A kill at any place of a save: the checkpoint before it stands, and nothing half is ever taken for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from alexnet_core.data.pack import Pack
from alexnet_core.errors import CheckpointCorrupt
from alexnet_core.network.checkpoint import load_checkpoint
from alexnet_core.network.checkpoint_files import verify_checkpoint
from alexnet_core.training.loop import Run
from alexnet_core.training.run_spec import RunResult, RunSpec
from tests.alexnet_core.killing import SURVIVED, kill_everywhere
from tests.alexnet_core.toy import CONFIG, QuietHooks, write_toy_pack

PREVIOUS, NEXT = "epoch-00000007-e0", "epoch-00000014-e1"


def train(pack: Pack, root: Path, *, stop_after: int | None = None, **spec: Any) -> RunResult:
    return Run(RunSpec(CONFIG, pack, 7, root, **spec), QuietHooks(stop_after)).train()


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return write_toy_pack(tmp_path_factory.mktemp("packs") / "toy")


@pytest.fixture(scope="module")
def killed(pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The checkpoint folder of a job after each kill."""
    home = tmp_path_factory.mktemp("killed")
    stopped = train(pack, home / "job", stop_after=9)  # seven steps, the validation and its checkpoint
    assert stopped.last_checkpoint == home / "job" / PREVIOUS
    return kill_everywhere("checkpoint", home / "job", home / "kills")


def test_the_kills_are_spread_over_the_whole_save(killed: list[Path]) -> None:
    kinds = [root.name.split("-")[0] for root in killed]
    assert kinds.count("bytes") >= 30
    assert kinds.count("operation") >= 10
    assert kinds.count(SURVIVED) == 1


def test_after_every_kill_the_checkpoint_before_is_whole(killed: list[Path]) -> None:
    for root in killed:
        verify_checkpoint(root / PREVIOUS, state=True)


def test_what_has_a_checkpoints_name_is_whole_and_what_is_not_whole_is_refused(killed: list[Path]) -> None:
    outcomes = set()
    for root in killed:
        for folder in set(root.iterdir()) - {root / PREVIOUS}:
            assert folder.name == NEXT or folder.name.startswith(".tmp-"), folder
            try:
                load_checkpoint(folder, state=True)
            except CheckpointCorrupt:
                assert folder.name != NEXT, f"half a checkpoint stands in {root.name}"
                outcomes.add("half, under a temporary name")
            else:
                outcomes.add("whole, in place" if folder.name == NEXT else "whole, under a temporary name")
    assert outcomes == {"half, under a temporary name", "whole, under a temporary name", "whole, in place"}


def test_a_run_goes_on_after_a_kill_to_the_same_weights(killed: list[Path], pack: Pack, tmp_path: Path) -> None:
    whole = train(pack, tmp_path)
    for root in killed:
        resumed = train(pack, root, resume_from=root / PREVIOUS, lease_epoch=2)
        assert resumed.weights_sha256 == whole.weights_sha256, root.name
