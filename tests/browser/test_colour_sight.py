"""States and lines stay apart in each kind of colour sight, as Chromium imitates it."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.browser.conftest import DESKTOP
from tests.browser.many_jobs import add_jobs, add_points, open_tables
from tests.browser.watching import Watch, open_view
from tests.integration.running import RunningYard

SIGHTS = ("protanopia", "deuteranopia", "tritanopia")
STATES = ("queued", "running", "pausing", "cancelling", "paused", "succeeded", "failed", "cancelled")
SAME_ICON = {frozenset({"pausing", "cancelling"})}  #: told apart by their words
SCALE = 4  #: pixels of the screen for one of the page
LEAST_APART = 10.0  #: in Lab, of two lines with the same dash; two that are 2.3 apart can just be told
MOST_OVERLAP = 0.9  #: of the pixels that two icons draw; all of them have a ring
LEAST_CONTRAST = 3.0

Pixels = np.ndarray[tuple[int, ...], np.dtype[Any]]


@pytest.fixture(scope="module")
def job_ids(yard: RunningYard) -> list[str]:
    """Eight jobs that have points."""
    database = open_tables(yard.folder)
    ids = add_jobs(database, 8)
    for i, job_id in enumerate(ids):
        add_points(database, job_id, 200, i / 3)
    database.engine.dispose()
    return ids


@pytest.fixture(params=["light", "dark"])
def page(browser: Browser, watch: Watch, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page whose pixels can be counted."""
    context = browser.new_context(viewport=DESKTOP, device_scale_factor=SCALE, color_scheme=request.param)
    watch.follow(context)
    yield context.new_page()
    context.close()
    assert watch.wrong() == []


def see(page: Page, sight: str) -> None:
    session = page.context.new_cdp_session(page)
    session.send("Emulation.setEmulatedVisionDeficiency", {"type": sight})


def pixels_of(part: Locator) -> Pixels:
    """What is seen of a part, red, green and blue."""
    return np.asarray(Image.open(io.BytesIO(part.screenshot())).convert("RGB"))


def drawn(pixels_HW3: Pixels) -> Pixels:
    """Which pixels are not of the ground, which a corner shows."""
    away_HW = np.abs(pixels_HW3.astype(int) - pixels_HW3[0, 0].astype(int)).sum(axis=2)
    return np.asarray(away_HW > away_HW.max() / 2)


def luminance(colour: Pixels) -> float:
    share = colour / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def contrast(one: Pixels, other: Pixels) -> float:
    dark, bright = sorted((luminance(one), luminance(other)))
    return (bright + 0.05) / (dark + 0.05)


def lab(colour: Pixels) -> tuple[float, float, float]:
    point = Image.fromarray(colour.astype(np.uint8).reshape(1, 1, 3))
    seen = ImageCms.profileToProfile(
        point, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert seen is not None
    lightness, *opponents = np.asarray(seen)[0, 0].astype(int)
    green_red, blue_yellow = (value - 256 if value > 127 else value for value in opponents)
    return (lightness / 2.55, green_red, blue_yellow)


def test_every_state_has_a_shape_and_a_word_of_its_own(page: Page, yard: RunningYard, job_ids: list[str]) -> None:
    states = dict(zip(job_ids, STATES, strict=True))
    rows = {state: page.locator(f'tr[data-job="{job_id}"]') for job_id, state in states.items()}  # others may appear

    def show_all_states(route: Route) -> None:
        answer = route.fetch()
        body = answer.json()  # the page also asks anew for some of the jobs
        body["data"] = [row | {"state": states[row["id"]]} for row in body["data"] if row["id"] in states]
        route.fulfill(response=answer, json=body)

    page.route("**/jobs?view=row*", show_all_states)
    open_view(page, yard.url)
    for sight in (*SIGHTS, "achromatopsia"):
        see(page, sight)
        shapes = {}
        for state in STATES:
            word = rows[state].locator(".word")
            expect(word).to_have_text(state)
            seen = pixels_of(word.locator("svg"))
            if sight == "achromatopsia":
                assert (np.ptp(seen.astype(int), axis=2) <= 2).all(), "the browser shows greys alone"
            shapes[state] = drawn(seen)
            assert contrast(np.median(seen[shapes[state]], axis=0), seen[0, 0]) >= LEAST_CONTRAST, (state, sight)
        for one, other in itertools.combinations(STATES, 2):
            if frozenset({one, other}) not in SAME_ICON:
                overlap = (shapes[one] & shapes[other]).sum() / (shapes[one] | shapes[other]).sum()
                assert overlap < MOST_OVERLAP, (one, other, sight)


def test_lines_of_one_dash_have_colours_that_are_told_apart(page: Page, yard: RunningYard, job_ids: list[str]) -> None:
    open_view(page, yard.url, f"#/compare?jobs={','.join(job_ids)}")
    lines = page.get_by_role("region", name="Jobs side by side").locator("th svg:has(line)")
    expect(lines).to_have_count(len(job_ids))
    dashes = [line.locator("line").get_attribute("stroke-dasharray") for line in lines.all()]
    assert dashes[:4] == [None] * 4
    assert None not in dashes[4:], "from the fifth on a line has a dash as well"
    for sight in SIGHTS:
        see(page, sight)
        colours = []
        for line in lines.all():
            seen = pixels_of(line)
            colours.append(lab(np.median(seen[drawn(seen)], axis=0)))
        for (one, dash), (other, other_dash) in itertools.combinations(zip(colours, dashes, strict=True), 2):
            if dash == other_dash:
                assert math.dist(one, other) >= LEAST_APART, sight
