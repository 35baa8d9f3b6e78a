"""A job in the browser: its curves, what is done with it, what it got wrong, and why it failed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Photograph
from tests.browser.training import DIVERGES, Json, read_job, start_job, wait_for_end, wait_for_job
from tests.browser.watching import Watch, open_view
from tests.integration.running import RunningYard

TABS = ["", "/evaluation", "/checkpoints", "/events", "/log", "/config"]

#: Holds every answer of an evaluation back for a second, and notes in the page that one was handed over.
LATE_EVALUATIONS = """
const ask = window.fetch;
window.fetch = async (...given) => {
  const answer = await ask(...given);
  if (new URL(answer.url).pathname.endsWith('/evaluation')) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    setTimeout(() => (document.documentElement.dataset.late = 'yes'), 100);
  }
  return answer;
};
"""


@pytest.fixture(scope="module")
def connected(yard: RunningYard) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=yard.url, trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def learnt(connected: httpx.Client) -> Json:
    """A job that has succeeded, after so few epochs that it still confuses digits."""
    return wait_for_end(connected, start_job(connected, "two epochs", epochs=2)["id"])


@pytest.fixture(scope="module")
def diverged(connected: httpx.Client) -> Json:
    job = wait_for_end(connected, start_job(connected, "too fast", **DIVERGES)["id"])
    assert job["error"]["code"] == "diverged"
    return job


def chart_of(page: Page, title: str) -> Locator:
    return page.get_by_role("figure", name=title, exact=True)


def cursor_of(page: Page, title: str) -> Locator:
    return chart_of(page, title).get_by_role("slider")


def table_of(page: Page, title: str) -> list[list[str]]:
    rows = page.get_by_role("region", name=f"{title}: points").locator("tbody tr")
    return [
        row.split("\t")
        for row in rows.evaluate_all("rows => rows.map(r => [...r.cells].map(c => c.textContent).join('\\t'))")
    ]


def test_the_curve_grows_its_star_is_on_the_best_epoch_and_a_zoomed_chart_stays(
    page: Page, yard: RunningYard, http: httpx.Client
) -> None:
    job = start_job(http, "growing", epochs=100)
    wait_for_job(http, job["id"], lambda now: now["progress"]["epoch"] >= 2)
    open_view(page, yard.url, f"#/jobs/{job['id']}")
    accuracy = cursor_of(page, "Accuracy")
    first = int(accuracy.get_attribute("aria-valuemax") or 0)
    expect(accuracy).not_to_have_attribute("aria-valuemax", str(first), timeout=30_000)

    box = cursor_of(page, "Loss").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 100, steps=4)
    page.mouse.up()
    expect(page.get_by_role("button", name="Reset zoom")).to_be_visible()
    zoomed = accuracy.get_attribute("aria-valuemax")
    step = read_job(http, job["id"])["progress"]["step"]
    wait_for_job(http, job["id"], lambda now: now["progress"]["step"] > step + 10)
    page.wait_for_timeout(1500)
    assert accuracy.get_attribute("aria-valuemax") == zoomed, "a zoomed chart does not follow"
    assert cursor_of(page, "Loss").get_attribute("aria-valuemax") == zoomed, "the charts of a view zoom together"

    http.post(f"/jobs/{job['id']}/cancel").raise_for_status()
    ended = wait_for_end(http, job["id"])
    expect(page.locator(".state").get_by_text("cancelled", exact=True)).to_be_visible()
    page.get_by_role("button", name="Reset zoom").click()
    points = http.get(f"/jobs/{job['id']}/metrics").json()["by_epoch"]
    expect(accuracy).to_have_attribute("aria-valuetext", f"no point chosen, {len(points)} points")  # all have come
    accuracy.press("b")
    best = next(point for point in points if point["epoch"] == ended["best"]["epoch"])
    expect(accuracy).to_have_attribute("aria-valuenow", str(best["step"]))
    said = chart_of(page, "Accuracy").get_by_role("status")
    expect(said).to_contain_text(f"best: epoch {best['epoch']}, {best['val_top1']:.1%}".replace("%", " %"))


def test_a_chart_says_its_trend_announces_its_cursor_and_shows_the_points_of_the_api(
    page: Page, yard: RunningYard, http: httpx.Client, learnt: Json
) -> None:
    open_view(page, yard.url, f"#/jobs/{learnt['id']}")
    points = http.get(f"/jobs/{learnt['id']}/metrics", params={"max_points": 1000}).json()
    caption = chart_of(page, "Loss").locator("figcaption")
    expect(caption).to_contain_text("train falls from")
    expect(chart_of(page, "Accuracy").locator("figcaption")).to_contain_text(f"best at epoch {learnt['best']['epoch']}")

    loss = cursor_of(page, "Loss")
    loss.press("Home")
    expect(loss).to_have_attribute("aria-valuetext", re.compile(r"^step 1: train [\d.]+, validation [\d.]+$"))
    loss.press("ArrowRight")
    expect(loss).to_have_attribute("aria-valuenow", "2")
    expect(cursor_of(page, "Learning rate")).to_have_attribute("aria-valuenow", "2")

    loss.press("t")
    rows = table_of(page, "Loss")
    by_step = {point["step"]: point["train_loss"] for point in points["by_step"]}
    by_epoch = {point["step"]: point["val_loss"] for point in points["by_epoch"]}
    assert [int(row[0]) for row in rows] == sorted({*by_step, *by_epoch})
    for step, train, validation in rows:
        assert train == written(by_step.get(int(step)))
        assert validation == written(by_epoch.get(int(step)))


def written(value: float | None) -> str:
    """A number as the table writes it: six digits."""
    return "" if value is None else f"{float(f'{value:.6g}'):.10g}"


def test_a_job_is_paused_resumed_cancelled_retried_for_longer_cloned_and_deleted(
    page: Page, yard: RunningYard, http: httpx.Client, watch: Watch
) -> None:
    watch.expect(r"status of 422 .*/retry")
    job = start_job(http, "handled", epochs=100)
    wait_for_job(http, job["id"], lambda now: now["progress"]["epoch"] >= 1)
    open_view(page, yard.url, f"#/jobs/{job['id']}")
    state = page.locator(".head .word")

    page.get_by_role("button", name="Pause").click()
    expect(state).to_have_text("paused", timeout=60_000)
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Keep training").click()
    assert read_job(http, job["id"])["state"] in ("queued", "running")
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel for good").click()
    expect(state).to_have_text("cancelled", timeout=60_000)

    page.get_by_role("button", name="Retry").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Begin")).to_have_value("latest")
    dialog.get_by_label("epochs").fill("5")
    dialog.get_by_role("button", name="Retry").click()
    expect(dialog.get_by_role("alert")).to_contain_text("epochs")
    expect(dialog.get_by_label("epochs")).to_be_focused()
    dialog.get_by_label("epochs").fill("101")
    dialog.get_by_role("button", name="Retry").click()
    page.wait_for_url(lambda url: job["id"] not in url)
    retried = page.url.rpartition("/")[2]
    assert read_job(http, retried)["config"]["epochs"] == 101
    assert read_job(http, retried)["parent_id"] == job["id"]
    http.post(f"/jobs/{retried}/cancel").raise_for_status()
    wait_for_end(http, retried)

    open_view(page, yard.url, f"#/jobs/{job['id']}")  # the view of the other job has the same buttons
    page.get_by_role("button", name="Clone").or_(page.get_by_role("link", name="Clone")).click()
    page.wait_for_url(re.compile(rf"#/new\?from={job['id']}"))
    page.go_back()
    page.get_by_role("button", name="More actions").click()
    page.get_by_role("menuitem", name="Delete").click()
    watch.expect(rf"status of 404 .*/jobs/{job['id']}")  # its view may hear of the end before the answer comes
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.wait_for_url(re.compile(r"#/jobs$"))
    assert http.get(f"/jobs/{job['id']}").status_code == 404


def test_a_cell_of_the_confusion_opens_exactly_its_images_and_the_hardest_come_first(
    page: Page, yard: RunningYard, http: httpx.Client, learnt: Json, watch: Watch
) -> None:
    watch.expect(r"status of 503 .*/(evaluation|similar)")  # being computed: the page asks again
    open_view(page, yard.url, f"#/jobs/{learnt['id']}/evaluation")
    images = page.get_by_role("region", name="Images", exact=True).locator("li img")
    images.first.wait_for(timeout=60_000)
    losses = [float(text.removeprefix("loss ")) for text in page.locator(".answers > .dim").all_inner_texts()]
    assert losses == sorted(losses, reverse=True)

    evaluation = http.get(f"/jobs/{learnt['id']}/evaluation").json()
    pair = evaluation["confused"][0]
    page.get_by_role("button", name=f"{pair['true']}, taken for {pair['predicted']}: {pair['count']} image").click()
    expect(page).to_have_url(re.compile("true=.*predicted="))
    address = parse_qs(urlsplit(page.url).fragment.partition("?")[2])
    assert (address["true"], address["predicted"]) == ([pair["true"]], [pair["predicted"]])
    cell = {"true": pair["true"], "predicted": pair["predicted"], "limit": 100}
    expected = http.get(f"/jobs/{learnt['id']}/evaluation/images", params=cell).json()["data"]
    expect(images).to_have_count(pair["count"])
    shown = [urlsplit(source or "").path for source in images.evaluate_all("all => all.map(image => image.src)")]
    assert shown == [image["url"] for image in expected]

    images.first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("row").filter(has_text=f"{pair['true']} (true)")).to_be_visible()
    expect(dialog.get_by_role("img", name="as heat")).to_be_visible(timeout=60_000)
    expect(dialog.get_by_role("img", name="training image").first).to_be_visible(timeout=60_000)


def test_a_heat_map_that_is_still_being_computed_comes_by_itself(
    page: Page, yard: RunningYard, learnt: Json, watch: Watch
) -> None:
    watch.expect(r"status of 503 .*/(evaluation|explain|similar)")
    error = {"code": "insight_in_progress", "message": "It is being computed.", "request_id": "req_1"}
    page.route(
        re.compile("/explain"),
        lambda route: route.fulfill(status=503, headers={"Retry-After": "4"}, json={"error": error}),
        times=1,
    )
    open_view(page, yard.url, f"#/jobs/{learnt['id']}/evaluation")
    page.get_by_role("region", name="Images", exact=True).locator("li img").first.click(timeout=60_000)
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("It is being computed.")
    expect(dialog.get_by_role("img", name="as heat")).to_be_visible(timeout=60_000)


def test_an_evaluation_that_comes_after_its_tab_was_left_changes_nothing(
    page: Page, yard: RunningYard, learnt: Json, watch: Watch
) -> None:
    watch.expect(r"status of 503 .*/evaluation")
    page.add_init_script(LATE_EVALUATIONS)
    with page.expect_response("**/evaluation"):  # else leaving the tab could end the request
        open_view(page, yard.url, f"#/jobs/{learnt['id']}/evaluation")
    page.get_by_role("link", name="Config").click()
    page.locator("html[data-late]").wait_for()
    assert watch.wrong() == []  # Svelte warns of what a view does after its end


def test_a_failed_job_says_why_what_to_do_and_how_on_one_screen(
    page: Page, yard: RunningYard, http: httpx.Client, diverged: Json, photograph: Photograph
) -> None:
    open_view(page, yard.url, f"#/jobs/{diverged['id']}")
    card = page.get_by_role("region", name="Why it failed")
    expect(card).to_contain_text(diverged["error"]["message"][1:])
    expect(card).to_contain_text("What to do: Retry from the start with a lower lr")
    expect(card.locator("pre")).to_contain_text("lower lr")
    retry = card.get_by_role("button", name="Retry with another lr")
    for part in (card, card.locator("pre"), retry):
        expect(part).to_be_in_viewport(ratio=1)
    photograph(page, "job-failed")
    retry.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Begin")).to_have_value("start")
    expect(dialog.get_by_label("lr", exact=True)).to_be_focused()
    page.keyboard.press("Control+A")
    page.keyboard.type("0.05")
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: diverged["id"] not in url)
    retried = page.url.rpartition("/")[2]
    http.post(f"/jobs/{retried}/cancel").raise_for_status()
    assert read_job(http, retried)["config"]["lr"] == 0.05
