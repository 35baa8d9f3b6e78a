"""A yard in which nothing has been trained: its first job, and all of it by the machine's name over plain http."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import HOST_NAME
from tests.browser.training import wait_for_end
from tests.browser.watching import Watch, list_faults, open_view, scrolls_sideways
from tests.integration.running import RunningYard, running_yard

EMPTY = {
    "jobs": "Nothing has been trained yet.",
    "compare": "No jobs are chosen",
    "predict": "Drop, paste or choose a picture",
    "yard": "Nothing waits",
}


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningYard]:
    """A yard of this module's own, which nobody has used."""
    with running_yard(tmp_path_factory.mktemp("empty") / "data", TRAINYARD_TRUSTED_HOSTS=HOST_NAME) as running:
        yield running


@pytest.fixture
def emptied(http: httpx.Client) -> None:
    """Removes what a first try has left, where a test is tried again."""
    for job in http.get("/jobs").json()["data"]:
        http.post(f"/jobs/{job['id']}/cancel")
        wait_for_end(http, job["id"])
        http.delete(f"/jobs/{job['id']}").raise_for_status()


@pytest.mark.usefixtures("emptied")
def test_an_empty_yard_says_so_in_every_view(page: Page, yard: RunningYard) -> None:
    for view, sentence in EMPTY.items():
        open_view(page, yard.url, f"#/{view}")
        expect(page.locator("main")).to_contain_text(sentence)
        assert list_faults(page) == [], view
        assert not scrolls_sideways(page), view


@pytest.mark.usefixtures("emptied")
def test_an_empty_yard_trains_on_digits_at_one_click_and_the_row_moves_without_a_reload(
    page: Page, yard: RunningYard, http: httpx.Client
) -> None:
    open_view(page, yard.url)
    page.evaluate("window.notReloaded = true")
    page.get_by_role("button", name="Train on digits").click()
    row = page.get_by_role("row").filter(has_text="first job")
    expect(row).to_contain_text("digits")
    bar = row.get_by_role("progressbar")
    expect(row).to_contain_text("running", timeout=60_000)
    expect(bar).not_to_have_attribute("aria-valuenow", "0", timeout=60_000)
    first = int(bar.get_attribute("aria-valuenow") or 0)
    expect(bar).not_to_have_attribute("aria-valuenow", str(first), timeout=30_000)
    expect(row).to_contain_text(re.compile(r"epoch \d+"))
    [job] = http.get("/jobs").json()["data"]
    http.post(f"/jobs/{job['id']}/cancel").raise_for_status()
    expect(row).to_contain_text("cancelled", timeout=60_000)
    assert page.evaluate("window.notReloaded")


def test_by_the_machines_name_over_plain_http_all_works_but_the_camera_which_says_why(
    page: Page, yard: RunningYard, http: httpx.Client, watch: Watch
) -> None:
    named = yard.url.replace("127.0.0.1", HOST_NAME)
    watch.url = named
    open_view(page, named, "#/new?dataset=digits")
    assert not page.evaluate("window.isSecureContext")
    assert (
        page.evaluate("[typeof crypto.randomUUID, typeof navigator.clipboard, typeof navigator.mediaDevices]")
        == ["undefined"] * 3
    )
    page.get_by_label("Name", exact=True).fill("by name")
    page.get_by_role("textbox", name="epochs", exact=True).fill("2")
    page.get_by_role("button", name="Start training").click()
    expect(page).to_have_url(re.compile("#/jobs/job_"))
    expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()
    job_id = page.url.rpartition("/")[2]
    ended = wait_for_end(http, job_id)
    expect(page.locator(".head .word")).to_have_text("succeeded")

    page.get_by_role("navigation", name="Views").get_by_role("link", name="Jobs", exact=True).click()
    expect(page.locator(f'tr[data-job="{job_id}"]')).to_contain_text("succeeded")
    page.goto(f"{named}/#/compare?jobs={job_id},{http.get('/jobs').json()['data'][-1]['id']}")
    page.get_by_role("button", name="Copy link").click()
    field = page.get_by_role("textbox", name=re.compile("press Ctrl C"))
    expect(field).to_be_focused()
    assert field.evaluate("field => field.value.slice(field.selectionStart, field.selectionEnd)") == page.url

    page.goto(f"{named}/#/predict?model={job_id}")
    page.get_by_role("button", name="Test image").click()
    expect(page.get_by_text(re.compile("Answered by"))).to_contain_text(
        f"epoch {ended['best']['epoch']}", timeout=60_000
    )
    page.get_by_role("button", name="Camera").click()
    expect(page.get_by_role("alert")).to_contain_text("Browsers give the camera only to https and to localhost")
