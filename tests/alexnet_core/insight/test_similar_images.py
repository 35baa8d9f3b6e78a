"""The nearest images, compared with a search that does nothing clever."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from alexnet_core.insight import similar_images
from alexnet_core.insight.similar_images import FEATURES, SimilarityIndex, choose_indexed, write_index


def make(
    folder: Path, num: int = 500, width: int = 32, offset: float = 0.0
) -> tuple[SimilarityIndex, NDArray[np.float32]]:
    features = (np.random.default_rng(0).normal(0, 1, (num, width)) + offset).astype(np.float32)
    write_index(folder, features, np.arange(num, dtype=np.int64) * 3)
    return SimilarityIndex(folder), features


@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_they_are_the_nearest_and_in_order(tmp_path: Path, offset: float) -> None:
    """Also where the squares are so large that 32 bits hardly hold the differences."""
    index, features = make(tmp_path, offset=offset)
    query = features[11] + np.float32(0.01)
    found = index.search(query, 7)
    distances = np.sqrt(((features.astype(np.float64) - query.astype(np.float64)) ** 2).sum(axis=1))
    expected = np.argsort(distances)[:7]
    assert [one.position for one in found] == (3 * expected).tolist()
    assert [one.distance for one in found] == pytest.approx(distances[expected].tolist())


def test_an_image_is_most_alike_to_itself(tmp_path: Path) -> None:
    index, features = make(tmp_path, offset=1000.0)
    assert index.search(features[42], 1)[0].position == 3 * 42
    assert index.search(features[42], 1)[0].distance == 0


def test_of_equal_ones_the_first_comes_first(tmp_path: Path) -> None:
    write_index(tmp_path, np.ones((6, 3), np.float32), np.array([5, 6, 7, 8, 9, 10]))
    assert [one.position for one in SimilarityIndex(tmp_path).search(np.ones(3, np.float32), 3)] == [5, 6, 7]


def test_more_than_there_are_gives_all(tmp_path: Path) -> None:
    index, _ = make(tmp_path, num=4)
    assert len(index.search(np.zeros(32, np.float32), 100)) == 4


def test_it_is_read_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similar_images, "_BLOCK", 100)
    index, features = make(tmp_path, num=50)
    assert index.search(features[49], 2)[0].position == 3 * 49


def test_half_an_index_is_refused(tmp_path: Path) -> None:
    make(tmp_path)
    np.save(tmp_path / similar_images.NORMS, np.zeros(3))
    with pytest.raises(ValueError, match="not whole"):
        SimilarityIndex(tmp_path)
    (tmp_path / FEATURES).unlink()
    with pytest.raises(OSError, match=FEATURES):
        SimilarityIndex(tmp_path)


def test_of_too_many_images_the_same_ones_are_chosen_at_random() -> None:
    training = np.arange(0, 2000, 2, dtype=np.int64)
    assert (choose_indexed(training, 1000) == training).all()
    chosen = choose_indexed(training, 100)
    assert len(set(chosen.tolist())) == 100
    assert set(chosen.tolist()) <= set(training.tolist())
    assert (np.diff(chosen) > 0).all()
    assert (chosen == choose_indexed(training, 100)).all()
    assert 700 < chosen.mean() < 1300
