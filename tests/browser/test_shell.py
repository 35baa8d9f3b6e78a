"""The shell around the views: ways to them, focus, themes, widths; and that nothing in it is out of reach."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.browser.watching import Watch, open_view
from tests.integration.running import RunningYard


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


def test_what_the_yard_can_not_do_now_is_tried_again_when_it_says(page: Page, yard: RunningYard, watch: Watch) -> None:
    watch.expect("status of 503 .*/recipes")
    error = {"code": "database_unavailable", "message": "The database does not answer.", "request_id": "req_1"}
    page.route(
        re.compile("/recipes$"),
        lambda route: route.fulfill(status=503, headers={"Retry-After": "5"}, json={"error": error}),
        times=1,
    )
    open_view(page, yard.url, "#/new")
    expect(page.get_by_role("alert")).to_contain_text("The database does not answer.")
    expect(page.get_by_role("button", name=re.compile(r"Try again \(by itself in [1-4] s\)"))).to_be_visible()
    expect(page.get_by_role("button", name="Start training")).to_be_visible()
