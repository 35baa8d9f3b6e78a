"""Chromium, a real yard, and pages that are watched."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect, sync_playwright

from tests.browser.watching import ROOT, Watch
from tests.integration.running import RunningYard, running_yard
from trainyard.client import Client

HOST_NAME = "gpu-box"  #: means this machine to the browser, and is no name that it trusts
ARGUMENTS = [
    f"--host-resolver-rules=MAP {HOST_NAME} 127.0.0.1",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP = ViewportSize(width=1280, height=800)
PHONE = ViewportSize(width=390, height=844)
PATIENCE_MS = 15_000  #: for what a page does by itself: on two busy cores Playwright's own 5 s are too few
PICTURES = os.environ.get("TRAINYARD_PICTURES")  #: where pictures of the views go; none are taken without it

NUM_FREQUENT = 96  #: colours of a picture that are kept as they are

Photograph = Callable[[Page, str], None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; Playwright's own is not downloaded."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    assert program is not None, "install Chromium (Debian: apt-get install chromium)"
    assert (ROOT / "api/page/index.html").is_file(), "run `make page`"
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningYard]:
    """One real yard for all tests: others' jobs may be there. A module that needs its own replaces this fixture."""
    with running_yard(tmp_path_factory.mktemp("yard") / "data") as running:
        yield running


@pytest.fixture
def client(yard: RunningYard) -> Iterator[Client]:
    with Client(yard.url) as connected:
        yield connected


@pytest.fixture
def http(yard: RunningYard) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=yard.url, trust_env=False, timeout=30) as connected:
        yield connected


@pytest.fixture
def watch(yard: RunningYard) -> Watch:
    return Watch(yard.url)


@pytest.fixture
def context(browser: Browser, watch: Watch) -> Iterator[BrowserContext]:
    """A browser that knows nothing yet; whatever goes wrong in its pages fails the test."""
    fresh = browser.new_context(viewport=DESKTOP)
    fresh.set_default_timeout(PATIENCE_MS)
    watch.follow(fresh)
    yield fresh
    fresh.close()
    assert watch.wrong() == []


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


@pytest.fixture
def again(request: pytest.FixtureRequest) -> str:
    """What names end with when a test is tried again: the yard still has what the first try left in it."""
    tried = getattr(request.node, "execution_count", 1)  # of pytest-rerunfailures
    return "" if tried == 1 else f"-{tried}"


@pytest.fixture
def photograph() -> Photograph:
    """Takes a picture of a page for docs/pictures, where the environment names a folder for them."""

    def take(page: Page, name: str) -> None:
        if PICTURES is not None:
            taken = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            shrink(taken).save(Path(PICTURES) / f"{name}.png", optimize=True)

    return take


def shrink(picture: Image.Image) -> Image.Image:
    """The picture in 256 colours: the most frequent ones, so that grounds and words keep theirs, and others."""
    colours, counts = np.unique(np.asarray(picture).reshape(-1, 3), axis=0, return_counts=True)
    frequent = colours[np.argsort(-counts)[:NUM_FREQUENT]]
    others = Image.fromarray(colours[np.newaxis]).quantize(256 - len(frequent), method=Image.Quantize.MEDIANCUT)
    palette = Image.new("P", (1, 1))
    palette.putpalette(frequent.tobytes() + bytes(others.getpalette() or []))
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)
