"""A page in Chromium that is watched: errors, reports of the policy and requests elsewhere fail its test."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request

ROOT = Path(__file__).parents[2]
AXE = ROOT / "web/node_modules/axe-core/axe.min.js"
SERIOUS = ("serious", "critical")


@dataclass
class Watch:
    """What went wrong in the pages of a context. A test names beforehand what it provokes."""

    url: str  #: of the yard: nothing else may be asked
    expected: list[str] = field(default_factory=list)  #: regular expressions
    seen: list[str] = field(default_factory=list)

    def follow(self, context: BrowserContext) -> None:
        context.on("console", self._note)
        context.on("weberror", lambda error: self.seen.append(f"uncaught: {error.error}"))
        context.on("request", self._check)

    def expect(self, *patterns: str) -> None:
        """From now on messages that match are what the test provokes."""
        self.expected += patterns

    def wrong(self) -> list[str]:
        return [text for text in self.seen if not any(re.search(pattern, text) for pattern in self.expected)]

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.seen.append(f"{message.type}: {message.text} {message.location.get('url', '')}")

    def _check(self, request: Request) -> None:
        own = {urlsplit(self.url).netloc}
        if urlsplit(request.url).scheme not in {"blob", "data"} and urlsplit(request.url).netloc not in own:
            self.seen.append(f"elsewhere: {request.url}")


def open_view(page: Page, url: str, view: str = "#/jobs") -> None:
    """Open a view anew and wait until its chunk is there; the view that was shown before is gone."""
    page.goto("about:blank")
    page.goto(f"{url}/{view}")
    page.locator("h1:not(:empty)").wait_for()


def wait_until(page: Page, condition: str, timeout_s: float = 15) -> None:
    """Wait until an expression of JavaScript is true in the page.

    `Page.wait_for_function` is refused by the policy of the page: it evaluates its text in the page at every look
    but the first, which passes, so that it fails only where there is something to wait for.
    """
    deadline = time.monotonic() + timeout_s
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, f"not true within {timeout_s} s: {condition}"
        page.wait_for_timeout(50)


def wait_for_pictures(page: Page, images: str) -> None:
    """Wait until every image that matches a selector has been read."""
    wait_until(page, f"[...document.querySelectorAll('{images}')].every((one) => one.naturalWidth > 0)")


def list_faults(page: Page) -> list[str]:
    """What axe finds serious in the page as it is now, a line each."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{fault['id']} ({fault['impact']}): {node['html'][:160]}: {node['failureSummary']}"
        for fault in found["violations"]
        if fault["impact"] in SERIOUS
        for node in fault["nodes"]
    ]


def scrolls_sideways(page: Page) -> bool:
    """Whether the page as a whole is wider than its window; a table may scroll within itself."""
    measure = "Math.max(...parts.map((part) => part.scrollWidth - part.clientWidth))"
    parts = "[document.documentElement, ...document.querySelectorAll('main')]"

    def is_too_wide() -> bool:
        return int(page.evaluate(f"((parts) => {measure})({parts})")) > 0

    for _ in range(10):  # the styles of a view come after the view
        if not is_too_wide():
            return False
        page.wait_for_timeout(200)
    return True
