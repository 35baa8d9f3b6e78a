"""The page follows the yard: one stream for all tabs, a line that is lost and comes back, and no tab that sees less."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import Photograph
from tests.browser.proxy import Proxy
from tests.browser.watching import Watch, open_view
from tests.integration.running import RunningYard

LOST = r"Failed to load resource: net::ERR_"  #: which one depends on how far a request was


@pytest.fixture
def proxy(yard: RunningYard, watch: Watch) -> Iterator[Proxy]:
    with Proxy(yard.url) as before:
        watch.url = before.url
        yield before


@pytest.fixture
def prefixed(yard: RunningYard, watch: Watch) -> Iterator[Proxy]:
    with Proxy(yard.url, "/user/x/proxy/8000") as before:
        watch.url = before.url
        yield before


def make_job(http: httpx.Client, name: str, **fields: Any) -> str:
    """A job that is paused while it waits, so that nothing but the test moves it."""
    answer = http.post("/jobs", json={"dataset": "digits", "name": name, **fields})
    assert answer.status_code == 202, answer.text
    job_id = str(answer.json()["id"])
    http.post(f"/jobs/{job_id}/pause")
    return job_id


def streams(proxy: Proxy) -> int:
    return sum(entry.startswith("GET /events") for entry in proxy.under_way)


def wait_for_stream(proxy: Proxy, page: Page) -> None:
    """Wait until a stream is answered: a page says that it is live from its first moment on."""
    deadline = time.monotonic() + 15
    while not any(entry.startswith("GET /events") for entry in proxy.answered):
        assert time.monotonic() < deadline, proxy.asked
        page.wait_for_timeout(50)


def test_nine_tabs_are_live_by_one_stream(
    proxy: Proxy, context: BrowserContext, http: httpx.Client, again: str
) -> None:
    name = f"seen by nine tabs{again}"
    tabs = [context.new_page() for _ in range(9)]
    for tab in tabs:
        open_view(tab, proxy.url)
        expect(tab.get_by_role("status").filter(has_text="live")).to_be_visible()
    wait_for_stream(proxy, tabs[0])
    make_job(http, name)
    for tab in tabs:
        tab.bring_to_front()
        expect(tab.get_by_text(name).first).to_be_visible()
    assert streams(proxy) == 1


def test_a_lost_line_is_said_at_once_and_mended_soon(
    proxy: Proxy, page: Page, http: httpx.Client, watch: Watch, photograph: Photograph, again: str
) -> None:
    before, during = f"before the break{again}", f"during the break{again}"
    watch.expect(LOST)
    page.clock.install()
    page.clock.resume()
    job_id = make_job(http, before)
    open_view(page, proxy.url)
    expect(page.get_by_text(before).first).to_be_visible()
    proxy.stop()
    expect(page.get_by_text("reconnecting, last heard")).to_be_visible(timeout=5000)
    expect(page.get_by_text(before).first).to_be_visible()  # what is known stays
    page.clock.fast_forward(61_000)
    banner = page.get_by_role("alert").filter(has_text="The yard does not answer. Training goes on without this page.")
    expect(banner).to_be_visible()
    photograph(page, "down")

    http.delete(f"/jobs/{job_id}")
    make_job(http, during)
    proxy.start()
    started = time.monotonic()
    expect(page.get_by_text(during).first).to_be_visible(timeout=8000)
    expect(banner).to_be_hidden()
    expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()
    assert time.monotonic() - started < 8  # at most four seconds between two tries, and the answers
    assert page.get_by_role("row").filter(has_text=during).count() <= 1


def test_without_shared_workers_a_tab_has_a_stream_of_its_own(
    proxy: Proxy, page: Page, http: httpx.Client, again: str
) -> None:
    name = f"seen without a worker{again}"
    page.add_init_script("delete window.SharedWorker")
    open_view(page, proxy.url)
    expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()
    wait_for_stream(proxy, page)
    make_job(http, name)
    expect(page.get_by_text(name).first).to_be_visible()
    assert streams(proxy) == 1


def test_an_updated_yard_offers_to_reload(proxy: Proxy, page: Page, http: httpx.Client, watch: Watch) -> None:
    watch.expect(LOST)
    open_view(page, proxy.url, "#/settings")
    expect(page.get_by_text("Version")).to_be_visible()
    newer = http.get("/yard").json() | {"version": "9.9.9"}
    page.route("**/yard", lambda route: route.fulfill(json=newer))
    wait_for_stream(proxy, page)  # else none would be lost
    proxy.stop()
    proxy.start()
    expect(page.get_by_role("button", name="Yard updated: reload")).to_be_visible(timeout=10_000)


@pytest.mark.parametrize("view", ["jobs", "datasets", "predict", "yard"])
def test_all_works_behind_a_path_prefix(prefixed: Proxy, page: Page, http: httpx.Client, view: str, again: str) -> None:
    name = f"seen behind a prefix{again}"
    open_view(page, prefixed.url, f"#/{view}")
    expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()
    if view == "jobs":
        make_job(http, name)
        expect(page.get_by_text(name).first).to_be_visible()
    assert page.get_by_role("alert").count() == 0
