"""Everything by the keyboard alone: the keys of every view, the palette, and a job made and paused without a mouse."""

from __future__ import annotations

import re

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Photograph
from tests.browser.training import Json, start_job, wait_for_end
from tests.browser.watching import list_faults, open_view
from tests.integration.running import RunningYard


@pytest.mark.parametrize(
    ("letter", "title"), [("d", "Datasets"), ("p", "Predict"), ("y", "Yard"), ("s", "Settings"), ("j", "Jobs")]
)
def test_g_and_a_letter_go_to_a_view(page: Page, yard: RunningYard, letter: str, title: str) -> None:
    open_view(page, yard.url, "#/compare")
    page.keyboard.press("g")
    page.keyboard.press(letter)
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_text(title)
    expect(heading).to_be_focused()


def test_help_shows_the_keys_and_escape_closes_it(page: Page, yard: RunningYard, photograph: Photograph) -> None:
    open_view(page, yard.url, "#/settings")
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keys")
    expect(dialog).to_be_visible()
    assert list_faults(page) == []
    photograph(page, "keys")
    page.keyboard.press("n")  # no shortcut while a dialog is open
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.keyboard.press("?")
    expect(dialog).to_be_visible()


def test_letters_are_no_shortcuts_in_a_field_nor_once_turned_off(page: Page, yard: RunningYard) -> None:
    open_view(page, yard.url, "#/settings")
    page.get_by_role("checkbox", name=re.compile("Single letters")).uncheck()
    page.keyboard.press("n")
    page.keyboard.press("?")
    expect(page.get_by_role("heading", level=1)).to_have_text("Settings")
    page.reload()
    expect(page.get_by_role("checkbox", name=re.compile("Single letters"))).not_to_be_checked()
    page.keyboard.press("Control+k")  # needs no turning off: it is no single letter
    expect(page.get_by_role("combobox")).to_be_focused()
    page.keyboard.type("n?gd")
    expect(page.get_by_role("combobox")).to_have_value("n?gd")


def test_the_palette_finds_jobs_datasets_and_actions(
    page: Page, yard: RunningYard, http: httpx.Client, photograph: Photograph, again: str
) -> None:
    job_id = http.post("/jobs", json={"dataset": "digits", "name": f"needle in a haystack{again}"}).json()["id"]
    http.post(f"/jobs/{job_id}/pause")
    open_view(page, yard.url, "#/settings")
    page.keyboard.press("Control+k")
    expect(page.get_by_role("option").first).to_be_visible()
    assert list_faults(page) == []
    photograph(page, "palette")
    page.keyboard.type(f"haystack{again}")
    expect(page.get_by_role("option")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"#/jobs/{job_id}"))
    page.keyboard.press("Control+k")
    expect(page.get_by_role("combobox")).to_be_focused()
    page.keyboard.type("dark")
    page.keyboard.press("Enter")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_a_menu_works_by_arrows_and_gives_the_focus_back(page: Page, yard: RunningYard) -> None:
    open_view(page, yard.url, "#/settings")
    button = page.get_by_role("button", name="Theme")
    button.focus()
    page.keyboard.press("Enter")
    items = page.get_by_role("menuitem")
    expect(items.first).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(items.last).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(button).to_be_focused()


def test_a_job_is_made_and_paused_without_a_mouse(page: Page, yard: RunningYard, again: str) -> None:
    name = f"made by keys{again}"
    open_view(page, yard.url, "#/jobs")
    page.keyboard.press("n")
    expect(page.get_by_role("heading", level=1)).to_have_text("New job")
    page.get_by_label("Name", exact=True).focus()
    page.keyboard.type(name)
    page.keyboard.press("Control+Enter")
    expect(page).to_have_url(re.compile("#/jobs/job_"))
    expect(page.get_by_role("heading", level=1)).to_have_text(name)  # else the keys go to the form
    page.keyboard.press("g")
    page.keyboard.press("j")
    row = page.get_by_role("row").filter(has_text=name)
    expect(row).to_be_visible()
    page.keyboard.press("j")
    page.keyboard.press("p")
    expect(row).to_contain_text(re.compile("paus"))


@pytest.fixture(scope="module")
def trained(yard: RunningYard) -> list[Json]:
    """Two jobs that have succeeded, of names that no other has."""
    with httpx.Client(base_url=yard.url, trust_env=False, timeout=30) as http:
        ids = [start_job(http, f"keyed {lr}", epochs=2, lr=lr)["id"] for lr in (0.05, 0.02)]
        return [wait_for_end(http, job_id) for job_id in ids]


def go_to(page: Page, wanted: Locator, most: int = 60) -> None:
    """Press Tab until this has the focus."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if wanted.evaluate("one => one === document.activeElement"):
            return
    raise AssertionError(f"{most} times Tab do not lead to {wanted}")


def test_a_job_is_watched_without_a_mouse(page: Page, yard: RunningYard, trained: list[Json]) -> None:
    open_view(page, yard.url, "#/jobs?q=keyed")
    expect(page.locator("tr[data-job]")).to_have_count(2)
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("keyed 0.02")
    cursor = page.get_by_role("figure", name="Accuracy").get_by_role("slider")
    cursor.wait_for()
    go_to(page, cursor)
    page.keyboard.press("Home")
    expect(cursor).to_have_attribute("aria-valuetext", re.compile(r"top-1 [\d.]+ %"))
    page.keyboard.press("b")
    best = next(job["best"] for job in trained if job["name"] == "keyed 0.02")
    expect(page.get_by_role("figure", name="Accuracy").get_by_role("status")).to_contain_text(f"epoch {best['epoch']}")
    page.keyboard.press("t")
    expect(page.get_by_role("region", name="Accuracy: points")).to_be_visible()
    go_to(page, page.get_by_role("link", name="Evaluation"), most=120)
    page.keyboard.press("Enter")
    cell = page.get_by_role("region", name="Confusion").get_by_role("button").first
    cell.wait_for()


def test_jobs_are_compared_without_a_mouse(page: Page, yard: RunningYard, trained: list[Json]) -> None:
    open_view(page, yard.url, "#/jobs?q=keyed")
    expect(page.locator("tr[data-job]")).to_have_count(2)
    for key in ("j", "x", "j", "x"):
        page.keyboard.press(key)
    expect(page.get_by_role("checkbox", checked=True)).to_have_count(3)  # with the one that selects all
    page.keyboard.press("c")
    expect(page.get_by_role("heading", level=1)).to_have_text("Compare 2 jobs")
    chart = page.get_by_role("figure").get_by_role("slider")
    chart.wait_for()
    go_to(page, chart)
    page.keyboard.press("End")
    expect(chart).to_have_attribute(
        "aria-valuetext", re.compile(r"keyed 0.05 .*%.*keyed 0.02 .*%|keyed 0.02.*keyed 0.05")
    )
    go_to(page, page.get_by_role("button", name="make baseline"))
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("base=job_"))


def test_a_picture_is_predicted_without_a_mouse(page: Page, yard: RunningYard, trained: list[Json]) -> None:
    open_view(page, yard.url, f"#/predict?model={trained[0]['id']}")
    go_to(page, page.get_by_role("button", name="Test image"))
    page.keyboard.press("Enter")
    rows = page.locator("main table tbody tr")
    expect(rows).to_have_count(5, timeout=60_000)
    second = rows.nth(1).get_by_role("button")
    go_to(page, page.get_by_role("checkbox", name=re.compile("Heat map")))
    page.keyboard.press("Space")
    expect(page.get_by_alt_text(re.compile("Heat map of"))).to_be_visible(timeout=60_000)
    go_to(page, second)
    page.keyboard.press("Enter")
    expect(second).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_alt_text(f"Heat map of what speaks for {second.inner_text()}")).to_be_visible(timeout=60_000)
    with page.expect_file_chooser():
        page.keyboard.press("Shift+Tab")
        for _ in range(60):
            if page.get_by_role("button", name="Choose", exact=True).evaluate("one => one === document.activeElement"):
                break
            page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")
