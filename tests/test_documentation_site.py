"""The documentation's site: it is built without a warning, leads to every page, and loads nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

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
