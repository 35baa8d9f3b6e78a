"""Pictures are asked about in every way that there is, and the answer is followed while a job learns."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Photograph
from tests.browser.watching import Watch, list_faults, open_view, wait_for_pictures
from tests.integration.running import RunningYard
from trainyard.client import Client

#: Makes a transfer with one file out of base64, as a drop or a paste brings it.
TRANSFER = """(content) => {
  const transfer = new DataTransfer();
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  transfer.items.add(new File([bytes], 'given.png', { type: 'image/png' }));
  return transfer;
}"""


@pytest.fixture(scope="module")
def job(yard: RunningYard) -> str:
    """A job on digits that has ended."""
    with Client(yard.url) as client:
        ended = client.wait(client.create_job("digits", overrides={"epochs": 3}, seed=1)["id"], timeout_s=300)
    assert ended["state"] == "succeeded"
    return str(ended["id"])


@pytest.fixture
def picture(http: httpx.Client, tmp_path: Path, job: str) -> Path:
    """A test image of a digit; the dataset is there once a job has needed it."""
    path = tmp_path / "digit.png"
    path.write_bytes(http.get("/datasets/digits/images/test/7", params={"px": 64}).content)
    return path


def shown_answer(page: Page) -> list[tuple[str, str]]:
    rows = page.locator("main table tbody tr")
    expect(rows).to_have_count(5, timeout=60_000)
    return [(row.locator("th button").inner_text(), row.locator("td.value").inner_text()) for row in rows.all()]


def api_answer(client: Client, picture: Path, model: str) -> list[tuple[str, str]]:
    found = client.predict(picture.read_bytes(), model=model)["predictions"]
    return [(entry["label"], f"{entry['probability'] * 100:.1f} %") for entry in found]


@pytest.mark.parametrize("way", ["chosen", "dropped", "pasted"])
def test_a_picture_gets_the_answer_of_the_api(
    page: Page, yard: RunningYard, client: Client, job: str, picture: Path, way: str
) -> None:
    open_view(page, yard.url, f"#/predict?model={job}")
    if way == "chosen":
        page.get_by_label("Pictures to ask about").set_input_files(picture)
    else:
        transfer = page.evaluate_handle(TRANSFER, base64.b64encode(picture.read_bytes()).decode())
        if way == "dropped":
            page.dispatch_event("main", "drop", {"dataTransfer": transfer})
        else:
            page.evaluate(
                "(data) => window.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true }))",
                transfer,
            )
    assert shown_answer(page) == api_answer(client, picture, job)
    expect(page.get_by_text(re.compile("Answered by"))).to_contain_text("epoch")


def test_a_test_image_is_explained_and_has_similar_images(
    page: Page, yard: RunningYard, job: str, photograph: Photograph, watch: Watch
) -> None:
    watch.expect("status of 503")  # the index of similar images is made first
    open_view(page, yard.url, f"#/predict?model={job}")
    page.get_by_role("button", name="Test image").click()
    expect(page.get_by_text(re.compile("^(Right|Wrong): it is"))).to_be_visible(timeout=60_000)
    page.get_by_label(re.compile("Heat map")).first.check()
    expect(page.get_by_alt_text(re.compile("Heat map of"))).to_be_visible(timeout=60_000)
    page.get_by_text("Similar training images").click()
    similar = page.get_by_role("group").filter(has_text="Similar training images")
    expect(similar.get_by_role("img")).to_have_count(8, timeout=60_000)
    wait_for_pictures(page, "main img")
    photograph(page, "predict")
    assert list_faults(page) == []


def test_several_pictures_have_an_answer_each_and_an_error_stands_at_its_own(
    page: Page, yard: RunningYard, job: str, picture: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(picture.read_bytes()[:60])
    open_view(page, yard.url, f"#/predict?model={job}")
    page.get_by_label("Pictures to ask about").set_input_files([picture, damaged])
    tiles = page.get_by_role("list", name="Pictures").get_by_role("button")
    expect(tiles.nth(0)).to_contain_text(re.compile(r"\d+\.\d %"), timeout=60_000)
    expect(tiles.nth(1)).to_contain_text("damaged")


def test_a_picture_that_is_given_while_a_test_image_is_read_stays(
    page: Page, yard: RunningYard, job: str, picture: Path
) -> None:
    held: list[Route] = []
    page.route("**/datasets/*/images/test/*", lambda route: held.append(route))
    open_view(page, yard.url, f"#/predict?model={job}")
    with page.expect_request("**/datasets/*/images/test/*"):
        page.get_by_role("button", name="Test image").click()
    page.get_by_label("Pictures to ask about").set_input_files(picture)
    shown = page.locator(".stage img").first
    expect(shown).to_have_attribute("alt", picture.name)
    for route in held:
        route.continue_()
    expect(page.get_by_role("button", name="Test image")).to_be_enabled()
    expect(shown).to_have_attribute("alt", picture.name)


def test_the_answer_gains_a_column_with_each_epoch_while_the_job_trains(
    page: Page, yard: RunningYard, client: Client, picture: Path, photograph: Photograph, watch: Watch
) -> None:
    watch.expect("status of 409")  # asked before its first epoch has ended
    followed = client.create_job("digits", overrides={"epochs": 100}, name="followed")["id"]
    open_view(page, yard.url, f"#/predict?model={followed}@latest")
    expect(page.get_by_role("checkbox", name="Follow while it trains")).to_be_checked()
    page.get_by_label("Pictures to ask about").set_input_files(picture)
    columns = page.locator("main table thead th.epoch")
    expect(columns.nth(3)).to_be_visible(timeout=120_000)  # of short epochs there may be more before this looks
    epochs = [int(re.sub(r"\D", "", text)) for text in columns.all_inner_texts()]
    assert epochs == sorted(set(epochs))
    assert client.get_job(followed)["state"] == "running"
    expect(columns.last).not_to_have_text(str(epochs[-1]), timeout=60_000)  # it goes on by itself
    photograph(page, "predict-followed")
    client.cancel_job(followed)
    client.wait(followed)
    expect(page.get_by_text(re.compile("Answered by"))).to_contain_text("followed, epoch")
