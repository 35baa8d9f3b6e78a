"""Writers of one pack: at the same time, and killed at any place."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alexnet_core.config import DatasetFacts
from alexnet_core.data import pack_draft
from alexnet_core.data.moments import Moments
from alexnet_core.data.pack import TRAIN, Pack, open_pack, open_whole
from alexnet_core.data.pack_draft import PackDraft, write_pack
from alexnet_core.errors import DatasetChanged, DatasetDamaged, DatasetUnavailable
from tests.alexnet_core.killing import ROOT, kill_everywhere, write_again
from tests.alexnet_core.toy import write_toy_pack


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return write_toy_pack(tmp_path_factory.mktemp("packs") / "toy")


def test_a_writer_that_another_overtakes_anywhere_succeeds_and_one_whole_pack_stands(
    pack: Pack, tmp_path: Path
) -> None:
    roots = kill_everywhere("race", pack.path, tmp_path / "races")
    assert len(roots) >= 8
    for root in roots:
        assert [path.name for path in root.iterdir()] == ["pack"], root.name
        written = open_pack(root / "pack")
        written.verify()
        assert written.digest == pack.digest


def test_a_killed_writer_leaves_no_half_pack_and_the_next_one_succeeds(pack: Pack, tmp_path: Path) -> None:
    roots = kill_everywhere("pack", pack.path, tmp_path / "kills")
    assert sum(root.name.startswith("bytes") for root in roots) == 24
    assert sum(root.name.startswith("operation") for root in roots) >= 8
    num_whole = 0
    for root in roots:
        if (root / "pack").exists():
            open_pack(root / "pack").verify()
            num_whole += 1
        for folder in set(root.iterdir()) - {root / "pack"}:
            assert folder.name.startswith(".tmp-pack-"), folder
            refuse_or_verify(folder)
        write_again(pack, root / "pack").verify()
    assert 2 <= num_whole < len(roots) - 24, "some were killed after the rename, most before it"


def refuse_or_verify(folder: Path) -> None:
    try:
        open_pack(folder).verify()
    except (DatasetUnavailable, DatasetChanged):
        return


def test_four_processes_that_prepare_digits_at_once_agree(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "alexnet_core", "prepare", "--dataset", "digits", "--target"]
    command.append(str(tmp_path / "digits"))
    writers = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]
    answers = [writer.communicate(timeout=120) for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 4, answers
    assert len({output for output, _ in answers}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]
    open_pack(tmp_path / "digits").verify()


def test_a_pack_of_other_content_is_never_overwritten(pack: Pack, tmp_path: Path) -> None:
    write_again(pack, tmp_path / "pack")
    with pytest.raises(DatasetChanged, match="never overwritten"):
        write_pack(
            tmp_path / "pack",
            name="other",
            class_names=("a", "b"),
            images_NHWC=np.zeros((4, 8, 8, 1), np.uint8),
            labels_N=np.array([0, 1, 0, 1]),
            split_N=np.array([0, 0, 1, 2], np.uint8),
            flip_safe=True,
        )
    assert open_pack(tmp_path / "pack").digest == pack.digest
    assert [path.name for path in tmp_path.iterdir()] == ["pack"]


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "split.npy", "pack.json"])
@pytest.mark.parametrize("left", [0, 1, 100])
def test_a_pack_with_a_file_cut_off_is_refused(pack: Pack, tmp_path: Path, name: str, left: int) -> None:
    write_again(pack, tmp_path / "pack")
    with (tmp_path / "pack" / name).open("r+b") as file:
        file.truncate(left)
    with pytest.raises(DatasetChanged, match="Prepare the dataset again"):
        open_pack(tmp_path / "pack")


def test_a_read_error_is_not_taken_for_a_damaged_pack(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_again(pack, tmp_path / "pack")

    def fail(*_: object, **__: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(np, "memmap", fail)
    with pytest.raises(OSError, match="Too many open files"):
        open_pack(tmp_path / "pack")


def spoil(path: Path, name: str) -> None:
    """Change one byte near the end of a file."""
    content = bytearray((path / name).read_bytes())
    content[-20] ^= 1
    (path / name).write_bytes(bytes(content))


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "split.npy"])
def test_a_damaged_pack_is_set_aside_and_made_again(pack: Pack, tmp_path: Path, name: str) -> None:
    path = tmp_path / "pack"
    write_again(pack, path)
    spoil(path, name)
    with pytest.raises(DatasetDamaged):
        open_whole(path)
    with pytest.raises(DatasetUnavailable):
        open_pack(path)
    assert write_again(pack, path).digest == pack.digest
    open_whole(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["pack"]


def test_a_damaged_pack_that_nobody_has_noticed_is_replaced_by_the_same_one(pack: Pack, tmp_path: Path) -> None:
    path = tmp_path / "pack"
    write_again(pack, path)
    spoil(path, "images.npy")
    before = open_pack(path)
    write_again(pack, path)
    open_whole(path)
    with pytest.raises(DatasetDamaged):
        before.verify()  # whoever had it open still reads what it was


@pytest.mark.parametrize("name", ["mean", "std", "covariance"])
def test_statistics_that_are_not_those_that_were_written_are_noticed(pack: Pack, tmp_path: Path, name: str) -> None:
    write_again(pack, tmp_path / "pack")
    meta = json.loads((tmp_path / "pack" / "pack.json").read_text())
    changed = {**meta, name: [[value[0] + 1] if isinstance(value, list) else value + 1 for value in meta[name]]}
    (tmp_path / "pack" / "pack.json").write_text(json.dumps(changed))
    with pytest.raises(DatasetDamaged, match="mean, std and covariance"):
        open_pack(tmp_path / "pack")
    del changed["statistics_sha256"]
    (tmp_path / "pack" / "pack.json").write_text(json.dumps(changed))
    open_pack(tmp_path / "pack")  # an older version wrote none


def test_a_pack_of_two_channels_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a pack of 2 channels: give 1"):
        PackDraft(tmp_path / "packs" / "pack", image_px=8, channels=2)
    assert list(tmp_path.iterdir()) == []


# --- the digest and the disk while images are appended ---


def commit_toy(path: Path, pack: Pack, expected: DatasetFacts | None) -> Pack:
    with PackDraft(path, image_px=pack.facts.image_px, channels=pack.channels, expected=expected) as draft:
        for start in range(0, len(pack.images), 7):
            draft.append(pack.images[start : start + 7])
        moments = Moments(pack.channels)
        moments.add(pack.images[pack.split == TRAIN])
        return draft.commit(
            name=pack.name,
            class_names=pack.class_names,
            labels_N=pack.labels,
            split_N=pack.split,
            flip_safe=pack.facts.flip_safe,
            moments=moments,
        )


def test_images_of_expected_facts_are_hashed_while_they_are_appended(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = pack.facts.model_copy(update={"num_train": 1})
    for number, expected in enumerate((None, other)):
        made = commit_toy(tmp_path / str(number), pack, expected)
        made.verify()
        assert made.digest == pack.digest

    def refuse(*_: object) -> None:
        raise AssertionError("the images were read again")

    monkeypatch.setattr(PackDraft, "_read_chunks", refuse)
    made = commit_toy(tmp_path / "expected", pack, pack.facts)
    made.verify()
    assert (made.digest, made.mean) == (pack.digest, pack.mean)
    with pytest.raises(AssertionError, match="read again"):
        commit_toy(tmp_path / "again", pack, other)


def test_a_disk_that_fails_once_while_images_are_appended_fails_the_pack(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system says once what it could not write; the sync at the end would succeed."""
    monkeypatch.setattr(pack_draft, "_SYNCED_BYTES", 1)
    sync, answers = os.fsync, iter([OSError(errno.EIO, "Input/output error")])

    def fail_once(descriptor: int) -> None:
        if (error := next(answers, None)) is not None:
            raise error
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_once)
    with pytest.raises(OSError, match="Input/output error"):
        commit_toy(tmp_path / "pack", pack, pack.facts)
    assert list(tmp_path.iterdir()) == []
    commit_toy(tmp_path / "pack", pack, pack.facts).verify()
