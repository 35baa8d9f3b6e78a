"""What the built page weighs, compressed by gzip as a browser over plain http asks for it. Sizes, not times.

One kB is 1,000 bytes. A view weighs what its first look loads besides the shell, but for the charts that several share.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.browser.watching import ROOT

PAGE = ROOT / "api/page"
FIRST_LOOK_KB = 90  #: the list of jobs, with the shell
CHART_KB = 26  #: uPlot, which is 23 of them, and what draws by it
VIEW_KB = 18  #: its scripts
STYLE_KB = 12  #: of a view, with the shell
EVERYTHING_KB = 230
ENTRY, JOBS = "index.html", "src/views/Jobs.svelte"


def weigh(files: set[str]) -> float:
    """The kB of some files as they are sent; one that is too small to be compressed is sent as it is."""
    sizes = [(PAGE / f"{file}.gz" if (PAGE / f"{file}.gz").exists() else PAGE / file).stat().st_size for file in files]
    return sum(sizes) / 1000


@pytest.fixture(scope="module")
def parts() -> dict[str, dict[str, Any]]:
    """Vite's manifest: the chunks, and what each of them imports."""
    assert (PAGE / "manifest.json").is_file(), "run `make page`"
    loaded: dict[str, dict[str, Any]] = json.loads((PAGE / "manifest.json").read_text())
    return loaded


def files_of(parts: dict[str, dict[str, Any]], *names: str) -> set[str]:
    """Every file that must be there before these parts run."""
    waiting, seen, files = list(names), set(), set()
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            files |= {parts[name]["file"], *parts[name].get("css", [])}
            waiting += parts[name].get("imports", [])
    return files


def scripts_of(files: set[str]) -> set[str]:
    return {file for file in files if file.endswith(".js")}


def charts() -> set[str]:
    """The chunks with uPlot in them."""
    return {f"assets/{file.name}" for file in (PAGE / "assets").glob("*.js") if "u-legend" in file.read_text()}


def test_the_first_look_at_the_jobs_is_light(parts: dict[str, dict[str, Any]]) -> None:
    files = files_of(parts, ENTRY, JOBS)
    assert weigh(files | {ENTRY}) <= FIRST_LOOK_KB
    assert not files & charts(), "the list of jobs does not need uPlot"


def test_the_charts_are_light() -> None:
    assert len(charts()) == 1
    assert weigh(charts()) <= CHART_KB


def test_each_view_is_light(parts: dict[str, dict[str, Any]]) -> None:
    shell = files_of(parts, ENTRY)
    lazy = [name for name, part in parts.items() if part.get("isDynamicEntry")]
    assert len(lazy) >= 9
    scripts = {name: weigh(scripts_of(files_of(parts, name) - shell - charts())) for name in lazy}
    assert {name: kb for name, kb in scripts.items() if kb > VIEW_KB} == {}
    whole = {name: files_of(parts, ENTRY, name) for name in lazy}
    styles = {name: weigh(files - scripts_of(files)) for name, files in whole.items()}
    assert {name: kb for name, kb in styles.items() if kb > STYLE_KB} == {}


def test_the_whole_page_is_light() -> None:
    files = {f"assets/{file.name}" for file in (PAGE / "assets").iterdir() if file.suffix in {".js", ".css"}}
    assert weigh(files | {ENTRY}) <= EVERYTHING_KB


def test_nothing_is_inline_and_every_address_is_relative() -> None:
    text = (PAGE / ENTRY).read_text()
    assert "<style" not in text
    assert "style=" not in text
    for part in text.split("<script")[1:]:
        assert part.partition(">")[2].startswith("</script>")
    for attribute in ("src", "href"):
        for value in text.split(f'{attribute}="')[1:]:
            assert not value.startswith(("/", "http"))
