"""Every view with something in it: by axe, in both themes, at a phone's width, at 320 px and magnified twice."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from tests.browser.conftest import DESKTOP, PHONE, Photograph
from tests.browser.watching import Watch, list_faults, open_view, scrolls_sideways
from tests.integration.running import RunningYard

NARROW = ViewportSize(width=320, height=640)
MAGNIFIED = ViewportSize(width=640, height=400)  # what is left of 1280 x 800 at 200 %
TABS = ["curves", "evaluation", "checkpoints", "events", "log", "config"]


@pytest.fixture(scope="module")
def views(yard: RunningYard) -> Iterator[dict[str, str]]:
    """The addresses of all views, by name; jobs of several states are there."""
    with httpx.Client(base_url=yard.url, trust_env=False) as http:

        def submit(name: str, **overrides: float) -> str:
            body = {"dataset": "digits", "name": name, "overrides": {"epochs": 3} | overrides}
            return str(http.post("/jobs", json=body).json()["id"])

        trained, other = submit("base"), submit("half the learning rate", lr=0.02)
        waiting = submit("night run")
        http.post(f"/jobs/{waiting}/pause")
        deadline = time.monotonic() + 150
        while http.get(f"/jobs/{trained}").json()["state"] != "succeeded":
            assert time.monotonic() < deadline, http.get(f"/jobs/{trained}").json()
            time.sleep(0.5)
        yield {
            "jobs": "#/jobs",
            "new": "#/new?dataset=digits",
            **{f"job-{tab}": f"#/jobs/{trained}/{tab}" for tab in TABS},
            "compare": f"#/compare?jobs={trained},{other}",
            "datasets": "#/datasets",
            "dataset": "#/datasets/ds_digits",
            "predict": f"#/predict?model={trained}",
            "yard": "#/yard",
            "settings": "#/settings",
        }


def settle(page: Page) -> None:
    """Wait until what a view shows at first has come."""
    page.wait_for_timeout(700)
    expect(page.get_by_text("Loading\u2026")).to_have_count(0)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_view_has_a_serious_fault(
    page: Page, yard: RunningYard, views: dict[str, str], theme: str, photograph: Photograph
) -> None:
    page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
    faults: dict[str, list[str]] = {}
    for name, address in views.items():
        open_view(page, yard.url, address)
        settle(page)
        photograph(page, f"{name}-{theme}")
        if found := list_faults(page):
            faults[name] = found
    assert faults == {}


@pytest.mark.parametrize("size", [PHONE, NARROW, MAGNIFIED], ids=["phone", "320 px", "200 %"])
def test_no_view_scrolls_sideways(
    page: Page, yard: RunningYard, views: dict[str, str], size: ViewportSize, photograph: Photograph
) -> None:
    page.set_viewport_size(size)
    wide = []
    for name, address in views.items():
        open_view(page, yard.url, address)
        settle(page)
        if size is PHONE:
            photograph(page, f"{name}-phone")
        if scrolls_sideways(page):
            wide.append(name)
    assert wide == []


def test_the_page_works_by_a_host_name_over_plain_http(browser: Browser, yard: RunningYard, watch: Watch) -> None:
    """Where there is no secure context: no randomUUID, no clipboard, no Web Locks."""
    named = yard.url.replace("127.0.0.1", "gpu-box.localhost")
    watch.url = named
    context = browser.new_context(viewport=DESKTOP)
    watch.follow(context)
    page = context.new_page()
    page.add_init_script("delete Crypto.prototype.randomUUID; delete Navigator.prototype.clipboard")
    open_view(page, named)
    expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()
    context.close()
    assert watch.wrong() == []
