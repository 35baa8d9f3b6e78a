"""Everything by the keyboard alone: the keys of every view, the palette, and a job made and paused without a mouse."""

from __future__ import annotations

import re

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Photograph
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
    page: Page, yard: RunningYard, http: httpx.Client, photograph: Photograph
) -> None:
    job_id = http.post("/jobs", json={"dataset": "digits", "name": "needle in a haystack"}).json()["id"]
    http.post(f"/jobs/{job_id}/pause")
    open_view(page, yard.url, "#/settings")
    page.keyboard.press("Control+k")
    expect(page.get_by_role("option").first).to_be_visible()
    assert list_faults(page) == []
    photograph(page, "palette")
    page.keyboard.type("haystack")
    expect(page.get_by_role("option")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"#/jobs/{job_id}"))
    page.keyboard.press("Control+k")
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


def test_a_job_is_made_and_paused_without_a_mouse(page: Page, yard: RunningYard) -> None:
    open_view(page, yard.url, "#/jobs")
    page.keyboard.press("n")
    expect(page.get_by_role("heading", level=1)).to_have_text("New job")
    page.get_by_label("Name", exact=True).focus()
    page.keyboard.type("made by keys")
    page.keyboard.press("Control+Enter")
    expect(page).to_have_url(re.compile("#/jobs/job_"))
    expect(page.get_by_role("heading", level=1)).to_have_text("made by keys")  # else the keys go to the form
    page.keyboard.press("g")
    page.keyboard.press("j")
    row = page.get_by_role("row").filter(has_text="made by keys")
    expect(row).to_be_visible()
    page.keyboard.press("j")
    page.keyboard.press("p")
    expect(row).to_contain_text(re.compile("paus"))
