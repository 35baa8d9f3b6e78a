"""The shell around the views: ways to them, focus, themes, widths; and that nothing in it is out of reach."""

from __future__ import annotations

import re

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE
from tests.browser.training import start_job, wait_for_end
from tests.browser.watching import Watch, list_faults, open_view, scrolls_sideways
from tests.integration.running import RunningYard

VIEWS = ["jobs", "new", "compare", "datasets", "predict", "yard", "settings"]


def test_the_ways_to_the_views_lead_there_and_focus_their_heading(page: Page, yard: RunningYard) -> None:
    open_view(page, yard.url, "")
    for name in ("Datasets", "Predict", "Yard", "Settings", "Jobs"):
        page.get_by_role("navigation", name="Views").get_by_role("link", name=name, exact=True).click()
        heading = page.get_by_role("heading", level=1)
        expect(heading).to_have_text(name)
        expect(heading).to_be_focused()
        expect(page).to_have_title(f"{name} · Trainyard")
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("Settings")


def test_the_skip_link_leads_past_the_navigation(page: Page, yard: RunningYard) -> None:
    open_view(page, yard.url)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    assert page.url.endswith("#/jobs")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_view_has_a_serious_fault(page: Page, yard: RunningYard, theme: str) -> None:
    page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
    for view in VIEWS:
        open_view(page, yard.url, f"#/{view}")
        assert list_faults(page) == [], view


def test_no_view_scrolls_sideways_on_a_phone_or_at_320_px(page: Page, yard: RunningYard, http: httpx.Client) -> None:
    named = start_job(http, "a name that is longer than a narrow window is wide", epochs=1)
    wait_for_end(http, named["id"])
    for width in (PHONE["width"], 320):
        page.set_viewport_size({"width": width, "height": 844})
        for view in VIEWS:
            open_view(page, yard.url, f"#/{view}")
            assert not scrolls_sideways(page), (view, width)


def test_what_the_yard_can_not_do_now_is_tried_again_when_it_says(page: Page, yard: RunningYard, watch: Watch) -> None:
    watch.expect("status of 503 .*/recipes")
    error = {"code": "database_unavailable", "message": "The database does not answer.", "request_id": "req_1"}
    page.route(
        re.compile("/recipes$"),
        lambda route: route.fulfill(status=503, headers={"Retry-After": "2"}, json={"error": error}),
        times=1,
    )
    open_view(page, yard.url, "#/new")
    expect(page.get_by_role("alert")).to_contain_text("The database does not answer.")
    expect(page.get_by_role("button", name="Try again (by itself in 1 s)")).to_be_visible()
    expect(page.get_by_role("button", name="Start training")).to_be_visible()
