"""A thousand jobs in the list, and up to twenty side by side: the page stays quick, and nothing in it jumps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import PHONE, Photograph
from tests.browser.many_jobs import add_jobs, add_points, change_jobs, open_tables
from tests.browser.training import start_job, wait_for_end
from tests.browser.watching import list_faults, open_view, scrolls_sideways
from tests.integration.running import RunningYard, running_yard
from trainyard.database.connection import Database

JOBS = 1000
MOST_ROWS = 45
MOST_ELEMENTS = 2000
MOST_HEAP_BYTES = 60_000_000
MOST_FRAME_CPU_S = 0.05  #: of the page's main thread, however busy the machine is; all rows at once would take more
MOST_COMPARED_CPU_S = 1.0

FRAMES = """async () => {
    const box = document.querySelector('.box');
    for (let i = 0; i < 100; i += 1) {
        box.scrollTop += 60;
        await new Promise(requestAnimationFrame);
    }
}"""
PAINTED = """async (address) => {
    window.location.hash = address;
    while (document.querySelector('figure canvas') === null) await new Promise(requestAnimationFrame);
    await new Promise(requestAnimationFrame);
}"""


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningYard]:
    """A yard of this module's own, because a thousand jobs would be in others' way."""
    with running_yard(tmp_path_factory.mktemp("many") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def database(yard: RunningYard) -> Iterator[Database]:
    database = open_tables(yard.folder)
    yield database
    database.engine.dispose()


@pytest.fixture(scope="module")
def job_ids(database: Database) -> list[str]:
    """Oldest first; the last twenty have 5,000 points each."""
    ids = add_jobs(database, JOBS, {"batch_size": 64})
    for i, job_id in enumerate(ids[-20:]):
        add_points(database, job_id, 5000, i / 3)
    return ids


def cpu_s(page: Page, script: str, argument: str | None = None) -> float:
    """Run a script in the page, and return the seconds of CPU that its main thread took meanwhile."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def read() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return float(next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration"))

    before = read()
    page.evaluate(script, argument)
    return read() - before


def first_row(page: Page) -> dict[str, Any]:
    """Which row is seen first, where, and how far the list is scrolled."""
    place = """box => {
        const head = box.querySelector('thead').getBoundingClientRect().bottom;
        const row = [...box.querySelectorAll('tr[data-job]')].find(row => row.getBoundingClientRect().top >= head);
        return { id: row.dataset.job, top: row.getBoundingClientRect().top, scrolled: box.scrollTop };
    }"""
    return dict(page.locator(".box").evaluate(place))


def test_a_thousand_jobs_scroll_within_their_budgets(
    page: Page, yard: RunningYard, job_ids: list[str], photograph: Photograph
) -> None:
    open_view(page, yard.url)
    table = page.get_by_role("table", name="Jobs")
    expect(table).to_have_attribute("aria-rowcount", str(JOBS + 1))
    expect(page.get_by_role("button", name="1,000 succeeded")).to_be_visible()
    photograph(page, "jobs-light")
    assert cpu_s(page, FRAMES) / 100 < MOST_FRAME_CPU_S
    assert page.locator("tr[data-job]").count() < MOST_ROWS
    assert page.evaluate("document.querySelectorAll('*').length") < MOST_ELEMENTS
    assert page.evaluate("performance.memory.usedJSHeapSize") < MOST_HEAP_BYTES
    page.locator(".box").evaluate("box => box.scrollTop = box.scrollHeight")
    expect(page.locator(f"tr[aria-rowindex='{JOBS + 1}']")).to_be_in_viewport()


def test_changes_do_not_move_the_list_and_new_jobs_wait_at_its_top(
    page: Page, yard: RunningYard, http: httpx.Client, database: Database, job_ids: list[str]
) -> None:
    open_view(page, yard.url)
    page.locator(".box").evaluate("box => box.scrollTop = 20000")
    expect(page.locator("tr[data-job]").first).not_to_have_attribute("aria-rowindex", "2")  # the part there is drawn
    page.wait_for_timeout(300)
    before = first_row(page)
    for round_ in range(3):
        change_jobs(database, job_ids[round_ * 100 : round_ * 100 + 100], f"renamed {round_}")
        change_jobs(database, [before["id"]], f"seen {round_}")
    seen = page.locator(f"tr[data-job='{before['id']}']")
    expect(seen).to_contain_text("seen 2", timeout=30_000)
    assert first_row(page) == before

    new = start_job(http, "the new one", epochs=100)
    pill = page.get_by_role("button", name="1 new job")
    expect(pill).to_be_visible(timeout=30_000)
    assert first_row(page) == before
    pill.click()
    expect(page.locator("tr[data-job]").first).to_contain_text("the new one")
    http.post(f"/jobs/{new['id']}/cancel").raise_for_status()
    wait_for_end(http, new["id"])
    http.delete(f"/jobs/{new['id']}").raise_for_status()
    expect(page.locator("tr[data-job]").first).not_to_contain_text("the new one", timeout=30_000)


def test_filters_are_in_the_address_and_keys_move_select_and_compare(
    page: Page, yard: RunningYard, database: Database, job_ids: list[str]
) -> None:
    change_jobs(database, job_ids[500:505], "chosen")
    open_view(page, yard.url)
    rows = page.locator("tr[data-job]")
    rows.first.wait_for()
    page.keyboard.press("/")
    expect(page.get_by_label("Find jobs")).to_be_focused()
    page.keyboard.type("chosen vision")
    expect(rows).to_have_count(3)
    expect(page).to_have_url(re.compile(r"q=chosen\+vision"))
    page.get_by_label("Find jobs").blur()
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.get_by_role("region", name="Selection")).to_contain_text("2 selected")
    page.keyboard.press("c")
    expect(page.get_by_role("heading", level=1)).to_have_text("Compare 2 jobs")
    page.go_back()
    expect(page.get_by_label("Find jobs")).to_have_value("chosen vision")


def test_three_jobs_are_compared_by_what_differs_and_the_link_opens_the_same_view(
    page: Page, context: BrowserContext, yard: RunningYard, job_ids: list[str], photograph: Photograph
) -> None:
    three = job_ids[-3:]
    open_view(page, yard.url, f"#/compare?jobs={','.join(three)}")
    table = page.get_by_role("region", name="Jobs side by side").get_by_role("table")
    options = table.locator("tbody").nth(1).locator("th[scope=row]")
    expect(options).to_have_text(["lr"])
    page.get_by_label("only what differs").uncheck()
    expect(options).to_have_text(["batch_size", "epochs", "lr"])
    page.get_by_label("only what differs").check()
    page.get_by_label("metric").select_option("train_loss")
    page.get_by_text("step", exact=True).click()
    table.get_by_role("button", name="make baseline").first.click()
    expect(page).to_have_url(re.compile("base=job_"))
    photograph(page, "compare-light")

    other = context.new_page()
    other.goto(page.url)
    expect(other.get_by_role("heading", level=1)).to_have_text("Compare 3 jobs")
    expect(other.get_by_label("metric")).to_have_value("train_loss")
    expect(other.get_by_role("slider", name="train loss")).to_have_attribute("aria-valuemax", "5000")
    same = other.get_by_role("region", name="Jobs side by side").get_by_role("table")
    expect(same.get_by_text("baseline", exact=True)).to_be_visible()
    assert same.inner_text() == table.inner_text()


def test_twenty_jobs_of_five_thousand_points_are_painted_in_time(
    page: Page, yard: RunningYard, job_ids: list[str]
) -> None:
    open_view(page, yard.url, "#/compare")
    address = f"#/compare?jobs={','.join(job_ids[-20:])}&metric=train_loss&x=step"
    assert cpu_s(page, PAINTED, address) < MOST_COMPARED_CPU_S
    expect(page.locator("figcaption")).to_contain_text("14 more in the table below")
    expect(page.get_by_role("slider", name="train loss")).to_have_attribute("aria-valuemax", "5000")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_list_and_comparison_have_no_serious_fault_and_fit_a_phone(
    page: Page, yard: RunningYard, job_ids: list[str], theme: str, photograph: Photograph
) -> None:
    page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
    for name, view in (("jobs", "#/jobs"), ("compare", f"#/compare?jobs={','.join(job_ids[-3:])}")):
        page.set_viewport_size({"width": 1280, "height": 800})
        open_view(page, yard.url, view)
        page.get_by_role("row").nth(3).wait_for()  # newer jobs of other tests may be above the thousand
        assert list_faults(page) == [], name
        photograph(page, f"{name}-{theme}")
        page.set_viewport_size(PHONE)
        page.wait_for_timeout(300)
        assert not scrolls_sideways(page), name
        assert list_faults(page) == [], f"{name} on a phone"
        photograph(page, f"{name}-phone-{theme}")
