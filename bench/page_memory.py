"""Measures what the page holds in Chromium while it follows a job for long and its views are changed hundreds of times.

    .venv/bin/python -m bench.page_memory [--points 10000] [--changes 300]

Starts an API on a temporary folder with a running job whose points this program writes; nothing trains. The page shows
the job, and between two portions of points it goes through all views, as a person who types their addresses. After each
round the garbage is collected (`HeapProfiler.collectGarbage`), and a line is printed: points so far, changes of view so
far, the heap in MB, nodes of the DOM and listeners of events, those that only a script refers to among them. At the end
it says what was gained since the second round, when each view has been there once and the series is thinned, and what
that would be in eight hours of a run that reports a point a second. Memory does not depend on the load of the machine.
The page's shared worker, which holds the stream, has a heap of its own and is not in these numbers.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from playwright.sync_api import sync_playwright

from bench.page_times import CHROMIUM
from bench.serving import serving_api
from tests.browser.conftest import ARGUMENTS, DESKTOP
from tests.browser.growing_job import VIEWS, GrowingJob
from tests.browser.heap import Heap, Held
from tests.browser.watching import open_view

FIRST_POINTS = 3000  #: beyond this number the page thins the series
CHANGES_A_ROUND = len(VIEWS) + 1
SETTLED_ROUND = 2
EIGHT_HOURS_S = 8 * 3600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--changes", type=int, default=300)
    arguments = parser.parse_args()
    assert (Path(__file__).parents[1] / "api/page/index.html").is_file(), "run `make page`"
    rounds = max(SETTLED_ROUND + 1, -(-arguments.changes // CHANGES_A_ROUND))
    portion = max(1, arguments.points // (rounds - SETTLED_ROUND))
    with serving_api() as (_, port, database), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_context(viewport=DESKTOP).new_page()
        job = GrowingJob(database)
        job.grow(FIRST_POINTS)
        open_view(page, f"http://127.0.0.1:{port}", f"#/jobs/{job.id}")
        heap = Heap(page)
        settled: Held | None = None
        for number in range(1, rounds + 1):
            job.walk(page)
            if number > SETTLED_ROUND:
                job.grow(portion)
            job.wait_until_shown(page)
            held = heap.read()
            print(
                f"{job.step:7,} points  {number * CHANGES_A_ROUND:4} changes  {held.heap_bytes / 1e6:6.2f} MB  "
                f"{held.nodes:5} nodes  {held.listeners:4} listeners",
                flush=True,
            )
            if number == SETTLED_ROUND:
                settled = held
        browser.close()
    assert settled is not None
    grown, points = held - settled, job.step - FIRST_POINTS
    print(
        f"since round {SETTLED_ROUND}: {grown.heap_bytes / 1e6:+.2f} MB, {grown.nodes:+} nodes, {grown.listeners:+} "
        f"listeners in {points:,} points; so at most {grown.heap_bytes / 1e6 / points * EIGHT_HOURS_S:.1f} MB in eight "
        "hours of a point a second, if all of it were gained for good"
    )


if __name__ == "__main__":
    main()
