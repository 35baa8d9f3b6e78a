"""The documentation's site: it is built without a warning, leads to every page, and loads nothing from elsewhere."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"

pytestmark = pytest.mark.slow  # it builds the whole site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-c"]
    built = subprocess.run([*command, DOCS / "site", DOCS, target], capture_output=True, text=True, cwd=ROOT)
    assert built.returncode == 0, built.stderr
    return target


def test_the_first_page_leads_to_every_page(site: Path) -> None:
    linked = set(re.findall(r'<a class="reference internal" href="([^"#]+)"', (site / "index.html").read_text()))
    pages = {str(page.relative_to(DOCS).with_suffix(".html")) for page in DOCS.rglob("*.md")}
    assert pages - {"README.html"} <= linked, pages - linked


def test_the_navigation_has_four_kinds_of_pages(site: Path) -> None:
    captions = re.findall(r'<span class="caption-text">([^<]+)</span>', (site / "index.html").read_text())
    assert captions == ["Quickstart", "How to", "Discussion", "Reference"]


def test_no_link_is_dead(site: Path) -> None:
    pages = {page: page.read_text() for page in site.rglob("*.html")}
    anchors = {page: set(re.findall(r'\bid="([^"]+)"', text)) for page, text in pages.items()}
    links = [(page, link) for page, text in pages.items() for link in re.findall(r'(?:href|src)="([^"]+)"', text)]
    assert len(links) > 5000
    for page, link in links:
        path, _, anchor = unquote(html.unescape(link)).partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        target = (page.parent / path.partition("?")[0]).resolve() if path else page
        assert target.exists(), f"{page.relative_to(site)}: {link}"
        assert not anchor or anchor in anchors.get(target, {anchor}), f"{page.relative_to(site)}: {link}"


def test_no_page_loads_anything_from_another_place(site: Path) -> None:
    pages = [*site.rglob("*.html")]
    assert len(pages) > 40
    for page in pages:
        loaded = re.findall(r'<(?:script|img|iframe|link)\b[^>]*(?:src|href)="(?:https?:)?//[^"]*"', page.read_text())
        assert loaded == [], page


def test_the_search_knows_what_a_page_says(site: Path) -> None:
    index = (site / "searchindex.js").read_text()
    assert "crash_loop" in index
    assert "stop-and-go-on" in index
