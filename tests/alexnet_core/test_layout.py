"""Names that writers, readers and those who clear away must agree on."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from alexnet_core import layout
from alexnet_core.layout import CheckpointKind, CheckpointName

ROOT = Path(__file__).parents[2]
SPELLED_ONCE = (
    ".tmp-", ".gone-", ".tfevents", "logs/jobs", "training_state.", "weights.safetensors", "config.json",
    "classes.json", "preprocessing.json", "metadata.json", "manifest.json", "pack.json", "report.json", "images.npy",
    "labels.npy", "split.npy",
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (CheckpointName(CheckpointKind.EPOCH, 42, 3), "epoch-00000042-e3"),
        (CheckpointName(CheckpointKind.RECOVERY, 123_456_789, 10**18 - 1), f"recovery-123456789-e{10**18 - 1}"),
        (CheckpointName("other", 0, 0), "other-00000000-e0"),
    ],
)
def test_a_checkpoints_name_says_what_it_was_made_of(name: CheckpointName, text: str) -> None:
    assert str(name) == text
    assert CheckpointName.parse(text) == name
    temporary = layout.temporary_name(text)
    assert CheckpointName.parse_temporary(temporary) == name
    assert CheckpointName.parse(temporary) is None
    assert CheckpointName.parse_temporary(text) is None


@pytest.mark.parametrize(
    "text",
    ["", "epoch", "epoch-42-e1", "epoch-00000042", "epoch-00000042-e", "epoch-00000042-e1x", "Epoch-00000042-e1",
     "epoch-00000042-e1\n", ".gone-epoch-00000042-e1", f"epoch-00000042-e{10**18}", "tensorboard"],
)  # fmt: skip
def test_any_other_name_is_no_checkpoints(text: str) -> None:
    assert CheckpointName.parse(text) is None
    assert CheckpointName.parse_temporary(layout.TEMPORARY_PREFIX + text) is None


def test_no_two_writers_share_a_temporary_name() -> None:
    names = {layout.temporary_name("epoch-00000042-e3") for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith(layout.TEMPORARY_PREFIX) for name in names)


def test_the_training_state_is_what_predictions_do_not_need() -> None:
    assert all(layout.is_of_state(name) for name in (layout.STATE_JSON, layout.STATE_TENSORS))
    assert not any(layout.is_of_state(name) for name in (*layout.CHECKPOINT_FILES, layout.MANIFEST))


def test_event_files_sort_in_the_order_of_the_attempts() -> None:
    names = [layout.event_file_name(attempt, 1e9 - attempt, "host", 7) for attempt in (1, 2, 10, 999)]
    assert names == sorted(names)
    assert all(Path(name).match(layout.EVENT_FILES) for name in names)


@pytest.mark.parametrize("package", ["alexnet_core", "trainyard", "worker", "api"])
def test_no_other_module_spells_a_files_name(package: str) -> None:
    for path in sorted((ROOT / package).rglob("*.py")):
        if path in (Path(layout.__file__), ROOT / "api" / "downloads" / "loading_code.py"):  # that one is for readers
            continue
        tree = ast.parse(path.read_text())
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
                found = [name for name in SPELLED_ONCE if name in node.value]
                assert not found, f"{path.relative_to(ROOT)}:{node.lineno} spells {found}: see alexnet_core.layout"
