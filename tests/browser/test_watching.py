"""What the other tests watch the page with."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.browser.watching import open_view, wait_until
from tests.integration.running import RunningYard


def test_a_condition_that_comes_true_later_is_waited_for_in_spite_of_the_policy(page: Page, yard: RunningYard) -> None:
    open_view(page, yard.url)
    page.evaluate("setTimeout(() => { window.came = true; }, 300)")
    wait_until(page, "window.came === true")


def test_a_condition_that_never_comes_true_is_named(page: Page, yard: RunningYard) -> None:
    open_view(page, yard.url)
    with pytest.raises(AssertionError, match=r"window\.never"):
        wait_until(page, "window.never === true", timeout_s=0.2)
