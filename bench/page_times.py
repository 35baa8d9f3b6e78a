"""Measures how long the page takes in Chromium: its first view, a frame of a thousand jobs, and a key until its paint.

    .venv/bin/python -m bench.page_times [--jobs 1000] [--rounds 7]

Starts an API on a temporary folder with that many jobs that have succeeded; nothing trains. A round is a browser that
knows nothing yet: from the address to the first row that is painted, then two seconds of scrolling, a step a frame, and
letters typed into the filter. The numbers are the median and the worst round; of frames and letters the 95th
percentile of each round. The design asks for 0.6 s, 20 ms and 100 ms on two idle cores, so the load is printed as well.
Chromium draws without a GPU, so a frame costs more here than on a desk.
"""

from __future__ import annotations

import argparse
import os
import statistics
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from bench.serving import serving_api
from tests.browser.conftest import ARGUMENTS, DESKTOP
from tests.browser.many_jobs import add_jobs

CHROMIUM = "/usr/bin/chromium"
#: Notes when the first row is painted: two frames after it is there, by which time the first of them is shown.
FIRST_ROW = """
const look = () => document.querySelector('tr[data-job]') === null
  ? requestAnimationFrame(look)
  : requestAnimationFrame(() => requestAnimationFrame(() => (window.firstRow = performance.now())));
requestAnimationFrame(look);
"""
SCROLL = """async () => {
  const box = document.querySelector('.box');
  const times = [];
  let last = await new Promise(requestAnimationFrame);
  while (times.length < 120) {
    box.scrollTop += 60;
    const now = await new Promise(requestAnimationFrame);
    times.push(now - last);
    last = now;
  }
  return times;
}"""
#: From the letter to the second frame after it: the first one has drawn what it changed.
TYPE = """async () => {
  const field = document.querySelector('input[type=search]');
  const times = [];
  for (let i = 0; i < 20; i += 1) {
    const began = performance.now();
    field.value = `job ${i}`;
    field.dispatchEvent(new Event('input', { bubbles: true }));
    await new Promise(requestAnimationFrame);
    await new Promise((resolve) => setTimeout(resolve));
    times.push(performance.now() - began);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return times;
}"""


def percentile_95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def measure(browser: Browser, url: str) -> tuple[float, float, float]:
    """One round: milliseconds to the first row, of a frame while scrolling, and from a letter to its paint."""
    context = browser.new_context(viewport=DESKTOP)
    page = context.new_page()
    page.add_init_script(FIRST_ROW)
    page.goto(f"{url}/#/jobs")
    page.wait_for_function("() => window.firstRow !== undefined")
    first = float(page.evaluate("window.firstRow"))
    page.wait_for_timeout(1000)
    frame = percentile_95(page.evaluate(SCROLL))
    letter = percentile_95(page.evaluate(TYPE))
    context.close()
    return first, frame, letter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    assert (Path(__file__).parents[1] / "api/page/index.html").is_file(), "run `make page`"
    with serving_api() as (_, port, database), sync_playwright() as playwright:
        add_jobs(database, arguments.jobs)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        load = os.getloadavg()[0]
        rounds = [measure(browser, f"http://127.0.0.1:{port}") for _ in range(arguments.rounds)]
        browser.close()
    print(f"{arguments.jobs} jobs, {arguments.rounds} rounds; load {load:.1f} before, {os.getloadavg()[0]:.1f} after")
    names = ("first row, ms", "a frame of scrolling, ms (p95)", "a letter until its paint, ms (p95)")
    for name, values in zip(names, zip(*rounds, strict=True), strict=True):
        print(f"{name}: median {statistics.median(values):.0f}, worst {max(values):.0f}, best {min(values):.0f}")


if __name__ == "__main__":
    main()
