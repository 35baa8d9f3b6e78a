"""A yard with a key: the page asks for it over the view, shows the same view then, and keeps the key nowhere."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import Photograph
from tests.browser.watching import Watch, list_faults
from tests.integration.running import RunningYard, running_yard

KEY = "a-key-that-is-found-nowhere-7391"


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningYard]:
    with running_yard(tmp_path_factory.mktemp("keyed") / "data", TRAINYARD_ADMIN_KEY=KEY) as running:
        body = {"dataset": "digits", "name": "night run", "overrides": {"epochs": 1}}
        held = {"Authorization": f"Bearer {KEY}"}
        made = httpx.post(f"{running.url}/jobs", json=body, headers=held, trust_env=False, timeout=30)
        assert made.status_code == 202
        yield running


def sign_in(page: Page, key: str) -> None:
    page.get_by_role("dialog").get_by_label("Key", exact=True).fill(key)
    page.get_by_role("button", name="Sign in").click()


def test_the_key_is_asked_for_over_the_view_and_kept_nowhere(
    page: Page, context: BrowserContext, yard: RunningYard, watch: Watch, photograph: Photograph
) -> None:
    watch.expect(r"status of 401")  # what the browser itself says of the requests before
    asked: list[str] = []
    page.on("request", lambda request: asked.append(f"{request.url} {request.all_headers()}"))
    page.goto(f"{yard.url}/#/jobs?q=night")
    dialog = page.get_by_role("dialog", name="This yard asks for a key")
    expect(dialog).to_be_visible()
    expect(page.get_by_label("Key", exact=True)).to_be_focused()
    assert list_faults(page) == []
    photograph(page, "key")

    sign_in(page, "not the key")
    expect(dialog.get_by_text("This is not a key of this yard.")).to_be_visible()
    expect(page.get_by_label("Key", exact=True)).to_have_value("")
    sign_in(page, KEY)
    expect(dialog).to_be_hidden()
    expect(page.get_by_text("night run").first).to_be_visible()
    assert page.url.endswith("#/jobs?q=night")

    kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])")
    assert KEY not in kept
    assert not any(KEY in request for request in asked)
    cookies = context.cookies()
    assert [(cookie["httpOnly"], cookie["sameSite"]) for cookie in cookies] == [(True, "Strict")]
    assert KEY not in str(cookies)
    for log in (yard.folder / "logs").rglob("*.log"):
        assert KEY not in log.read_text(errors="replace"), log


def test_a_new_tab_is_signed_in_and_all_are_signed_out_together(
    page: Page, context: BrowserContext, yard: RunningYard, watch: Watch
) -> None:
    watch.expect(r"status of 401")
    page.goto(f"{yard.url}/#/settings")
    sign_in(page, KEY)
    expect(page.get_by_text(re.compile("the key of the yard.s settings"))).to_be_visible()
    other = context.new_page()
    other.goto(f"{yard.url}/#/jobs")
    expect(other.get_by_text("night run").first).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("dialog", name="This yard asks for a key")).to_be_visible()
    assert context.cookies() == []


def test_not_now_leaves_the_view_with_its_error(page: Page, yard: RunningYard, watch: Watch) -> None:
    watch.expect(r"status of 401")
    page.add_init_script("delete window.SharedWorker")  # so that the page's stream is seen here
    # Both let the dialog be opened: the later one would open it once more if it was closed between them.
    with page.expect_response("**/events"), page.expect_response(re.compile(r"/jobs\?")):
        page.goto(f"{yard.url}/#/jobs")
    page.get_by_role("button", name="Not now").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("alert").first).to_be_visible()
    page.get_by_role("button", name="Try again").first.click()
    expect(page.get_by_role("dialog", name="This yard asks for a key")).to_be_visible()
