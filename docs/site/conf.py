"""How Sphinx makes the documentation's site out of `docs/`: `make docs`, then open build/docs/index.html.

The pages stay plain Markdown that reads well in a repository. What only the site needs is made here: the navigation,
from the lists of docs/README.md, which is the site's first page too.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from trainyard import __version__

project = "Trainyard"
author = "The Trainyard authors"
copyright = author
release = version = __version__
root_doc = "README"
extensions = ["myst_parser"]
myst_heading_anchors = 4  #: links to headings, as a repository's viewer makes them
myst_links_external_new_tab = False
exclude_patterns = ["site"]
html_theme = "furo"
html_title = f"Trainyard {version}"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#2456C9", "color-brand-content": "#2456C9"},
    "dark_css_variables": {"color-brand-primary": "#7DA6FF", "color-brand-content": "#7DA6FF"},
}
highlight_language = "none"  # a block without a language is a terminal's text

_SECTION = re.compile(r"^## (?P<title>.+)$", re.MULTILINE)
_PAGE = re.compile(r"\]\((?P<page>[A-Za-z0-9/-]+)\.md\)")
DECISIONS = "decisions/README"


def add_navigation(_app: Sphinx, name: str, source: list[str]) -> None:
    """Give the first page a hidden table of contents for each of its lists, and the list of decisions one."""
    if name == DECISIONS:
        source[0] += _table_of(source[0], "")
    if name != root_doc:
        return
    text = source[0]
    starts = [*_SECTION.finditer(text)]
    ends = [*(match.start() for match in starts[1:]), len(text)]
    for match, end in zip(starts, ends, strict=True):
        source[0] += _table_of(text[match.start() : end], f":caption: {match['title']}")


def _table_of(text: str, option: str) -> str:
    """Return a hidden table of contents of the pages that a text leads to."""
    pages = dict.fromkeys(_PAGE.findall(text))
    return "\n".join(["\n\n```{toctree}", ":hidden:", *filter(None, [option]), "", *pages, "```", ""])


def make_index(app: Sphinx, failure: Exception | None) -> None:
    """Give the first page the name by which a web server and a reader look for it."""
    if failure is None and app.builder.format == "html":
        shutil.copy(Path(app.outdir, f"{root_doc}.html"), Path(app.outdir, "index.html"))


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("source-read", add_navigation)
    app.connect("build-finished", make_index)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
