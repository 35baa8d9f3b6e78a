"""What is kept: whole results only, made by one process at a time, within bounds."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from alexnet_core.insight.methods import PassKind
from api.insight.results import ABANDONED_S, ResultKey, Results

KEY = ResultKey("ckpt_1", PassKind.INDEX, "train")


def everything(ids: Iterable[str]) -> set[str]:
    return set(ids)


def make(results: Results, key: ResultKey, size: int = 10, *, age_s: float = 0) -> Path:
    draft = results.begin(key)
    assert draft is not None
    (draft.path / "file").write_bytes(b"x" * size)
    folder = draft.publish()
    os.utime(folder, (time.time() - age_s,) * 2)
    return folder


def test_a_result_is_found_once_it_is_whole(tmp_path: Path) -> None:
    results = Results(tmp_path, max_bytes=100)
    assert results.find(KEY) is None
    draft = results.begin(KEY)
    assert draft is not None
    (draft.path / "file").write_bytes(b"x")
    assert results.find(KEY) is None
    assert draft.publish() == results.find(KEY)
    assert (tmp_path / "insight" / KEY.path / "file").read_bytes() == b"x"


def test_one_process_makes_it_and_the_next_may_when_that_one_gave_up(tmp_path: Path) -> None:
    first, second = Results(tmp_path, max_bytes=100), Results(tmp_path, max_bytes=100)
    draft = first.begin(KEY)
    assert draft is not None
    assert second.begin(KEY) is None
    draft.abandon()
    assert not draft.path.exists()
    again = second.begin(KEY)
    assert again is not None
    again.abandon()


def test_the_longest_unused_go_first_and_the_last_used_stays(tmp_path: Path) -> None:
    results = Results(tmp_path, max_bytes=250)
    keys = [ResultKey(f"ckpt_{number}", PassKind.ANSWERS, "test") for number in range(4)]
    for age, key in enumerate(keys):
        make(results, key, 100, age_s=100 * (age + 1))
    assert results.find(keys[3]) is not None, "used now"
    results.sweep(everything)
    assert [results.find(key) is not None for key in keys] == [True, False, False, True]
    make(results, keys[1], 1000)
    results.sweep(everything)
    assert results.find(keys[1]) is not None, "however large"
    assert results.find(keys[0]) is None


def test_results_of_checkpoints_that_are_gone_are_removed(tmp_path: Path) -> None:
    results = Results(tmp_path, max_bytes=10**9)
    make(results, KEY)
    kept = ResultKey("ckpt_2", PassKind.INDEX, "train")
    make(results, kept)
    results.sweep(lambda ids: set(ids) - {"ckpt_1"})
    assert results.find(KEY) is None
    assert results.find(kept) is not None
    assert [entry.name for entry in (tmp_path / "insight").iterdir()] == ["ckpt_2"]


def test_drafts_of_killed_processes_are_removed_and_those_at_work_are_not(tmp_path: Path) -> None:
    results = Results(tmp_path, max_bytes=10**9)
    left = results.begin(KEY)
    assert left is not None
    at_work = results.begin(ResultKey("ckpt_2", PassKind.INDEX, "train"))
    assert at_work is not None
    (at_work.path / "rows.npy").write_bytes(b"x")
    old = time.time() - 2 * ABANDONED_S
    os.utime(left.path, (old, old))
    os.utime(at_work.path, (old, old))
    results.sweep(everything)
    assert not left.path.exists()
    assert at_work.path.exists()
    left.abandon()
    at_work.abandon()


def test_a_sweep_without_anything_is_harmless(tmp_path: Path) -> None:
    Results(tmp_path, max_bytes=0).sweep(everything)
    assert list(tmp_path.iterdir()) == []
