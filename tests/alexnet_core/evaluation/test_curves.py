import gc
import io
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from alexnet_core.evaluation.curves import HEIGHT_PX, WIDTH_PX, Curves, draw_curves

TRAIN, VALIDATION, TOP5, RATE, BEST = (0, 114, 178), (213, 94, 0), (86, 180, 233), (0, 158, 115), (68, 68, 68)


def by_step(num: int, **more: float | None) -> list[dict[str, Any]]:
    return [{"step": i, "train_loss": 1.0 + 1.0 / i, "lr": 0.1} | more for i in range(1, num + 1)]


def by_epoch(num: int, **more: float | None) -> list[dict[str, Any]]:
    point = {"train_loss": 1.1, "val_loss": 1.5, "val_top1": 0.5, "val_top5": 0.9}
    return [point | {"epoch": i, "step": 10 * i} | more for i in range(1, num + 1)]


def pixels(png: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB"))


def count(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((picture == colour).all(axis=2).sum())


def test_a_picture_shows_every_series_and_the_best_epoch() -> None:
    picture = pixels(draw_curves(Curves.of(by_step(100), by_epoch(10), best_epoch=4), "job_1"))
    assert picture.shape == (HEIGHT_PX, WIDTH_PX, 3)
    for colour in (TRAIN, VALIDATION, TOP5, RATE, BEST):
        assert count(picture, colour) > 50, colour
    unmarked = pixels(draw_curves(Curves.of(by_step(100), by_epoch(10), best_epoch=None), "job_1"))
    assert count(picture, BEST) - count(unmarked, BEST) > 50


def test_the_best_epoch_is_marked_where_it_is() -> None:
    columns = []
    for best in (2, 8):
        picture = pixels(draw_curves(Curves.of([], by_epoch(10), best_epoch=best)))
        _, x = np.nonzero((picture[150:300, WIDTH_PX // 2 :] == BEST).all(axis=2))  # far from the star
        columns.append(np.median(x))
    assert columns == pytest.approx([60 + epoch / 10.4 * 425 for epoch in (2, 8)], abs=4)


@pytest.mark.parametrize(("steps", "epochs"), [(1, 0), (0, 1), (1, 1), (2, 0), (5, 0)])
def test_a_few_points_are_seen(steps: int, epochs: int) -> None:
    picture = pixels(draw_curves(Curves.of(by_step(steps), by_epoch(epochs))))
    assert count(picture, TRAIN) > 5
    assert (count(picture, RATE) > 5) == (steps > 0)
    assert (count(picture, VALIDATION) > 5) == (epochs > 0)


def test_no_points_at_all_are_said_in_words() -> None:
    nothing = pixels(draw_curves(Curves.of([], [])))
    assert len(np.unique(nothing)) > 2
    assert count(nothing, (255, 255, 255)) > 0.98 * WIDTH_PX * HEIGHT_PX


def test_a_hundred_thousand_points_fit() -> None:
    curves = Curves.of(by_step(100_000), by_epoch(1000), best_epoch=1000)
    png = draw_curves(curves)
    assert len(png) < 300_000
    assert count(pixels(png), TRAIN) > 50


@pytest.mark.parametrize("missing", [None, math.nan, math.inf])
def test_a_value_that_is_missing_or_not_finite_is_a_gap(missing: float | None) -> None:
    points = by_epoch(30)
    for index in range(10, 20):
        points[index]["val_top1"] = missing
    curves = Curves.of([], points)
    assert np.isnan(curves.val_top1).sum() == 10
    picture = pixels(draw_curves(curves))[60:]  # below the legend
    _, x = np.nonzero((picture[:, WIDTH_PX // 2 :] == VALIDATION).all(axis=2))
    assert np.diff(np.unique(x)).max() == pytest.approx(11 / 31.2 * 425, abs=8)


def test_a_point_between_two_gaps_is_seen() -> None:
    points = by_step(400, train_loss=None)
    points[200]["train_loss"] = 1.0
    in_panel = pixels(draw_curves(Curves.of(points, [])))[60:, 150:450]
    assert count(in_panel, TRAIN) > 5


def test_a_series_of_gaps_alone_is_no_error() -> None:
    curves = Curves.of(by_step(3, train_loss=None, lr=None), by_epoch(3, val_top1=None, val_loss=None), best_epoch=2)
    assert pixels(draw_curves(curves)).shape == (HEIGHT_PX, WIDTH_PX, 3)


def test_losses_far_apart_and_zero_are_drawn() -> None:
    for loss in (0.0, 1e-12, 1e12, -1.0):
        points = by_step(10)
        points[3]["train_loss"] = loss
        assert count(pixels(draw_curves(Curves.of(points, []))), TRAIN) > 5


def test_equal_points_give_equal_bytes_from_any_thread() -> None:
    curves = [Curves.of(by_step(50 + i), by_epoch(5), best_epoch=3) for i in range(2)]
    alone = [draw_curves(it, "job_1") for it in curves]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda it: draw_curves(it, "job_1"), curves * 2)) == alone * 2
    assert len(set(alone)) == 2


def test_a_title_is_text_and_nothing_else() -> None:
    assert draw_curves(Curves(), "costs $\\frac{$") != draw_curves(Curves(), "costs")


def test_nothing_of_a_picture_is_kept_after_it() -> None:
    from matplotlib.figure import Figure

    gc.collect()
    gc.disable()  # an API collects so seldom that none comes during a picture
    try:
        draw_curves(Curves.of(by_step(50), by_epoch(5), best_epoch=3))
        assert [it for it in gc.get_objects() if type(it) is Figure] == []
    finally:
        gc.enable()


def test_drawing_needs_no_torch_and_touches_no_global_figures() -> None:
    code = (
        "import sys\nfrom alexnet_core.evaluation.curves import Curves, draw_curves\n"
        "assert 'matplotlib' not in sys.modules\n"
        "draw_curves(Curves())\nprint(*sorted({'torch', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
