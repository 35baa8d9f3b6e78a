"""Archives and folders become datasets, whatever happens to the line, the API or the page meanwhile."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.api.tus import PATCH, TUS
from tests.browser.class_folders import CLASSES, make_folder, make_zip
from tests.browser.conftest import Photograph
from tests.browser.watching import Watch, list_faults, open_view, wait_for_pictures
from tests.integration.running import RunningYard
from trainyard.client import Client

UPLOAD_BYTES_PER_S = 100_000  #: an archive takes six seconds: a busy machine, too, sees it and stops it half-way
LINE_CUT = r"Failed to load resource: net::ERR_|status of 50[0-9]"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "shapes")


def slow_down(page: Page) -> None:
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    limits = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": UPLOAD_BYTES_PER_S}
    session.send("Network.emulateNetworkConditions", limits)


def row_of(page: Page, name: str) -> Locator:
    return page.locator("main li").filter(has_text=name)


def begin(page: Page, chosen: Path, name: str) -> None:
    field = "Folder to upload" if chosen.is_dir() else "Archives to upload"
    page.get_by_label(field).set_input_files(chosen)
    page.get_by_role("dialog").get_by_label("Name").fill(name)
    page.get_by_role("dialog").get_by_role("button", name="Upload").click()


def percent_of(row: Locator) -> int:
    found = re.search(r"(\d+) %", row.inner_text())
    return int(found.group(1)) if found else 0


def wait_for_half(row: Locator) -> None:
    deadline = time.monotonic() + 30
    while not 30 <= percent_of(row) < 90:
        assert time.monotonic() < deadline, row.inner_text()
        time.sleep(0.05)


def kill_web_process(yard: RunningYard) -> None:
    for pid in yard.descendants():
        if b"api.web_process" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
            return
    raise AssertionError("the yard has no web process")


def test_a_zip_is_whole_though_the_api_is_killed_at_half(
    page: Page, yard: RunningYard, client: Client, folder: Path, watch: Watch, photograph: Photograph, again: str
) -> None:
    dataset_name = f"killed{again}"
    watch.expect(LINE_CUT)  # the test cuts it
    open_view(page, yard.url, "#/datasets")
    slow_down(page)
    begin(page, make_zip(folder), dataset_name)
    row = row_of(page, dataset_name)
    expect(row).to_contain_text("uploading")
    wait_for_half(row)
    photograph(page, "datasets-uploading")
    kill_web_process(yard)

    expect(row).to_contain_text(re.compile("validating|ready"), timeout=120_000)
    expect(row).to_contain_text("ready", timeout=180_000)
    dataset = client.get_dataset(dataset_name)
    assert dataset["report"]["num_images"] == 90
    assert [entry["file"] for entry in dataset["report"]["rejected"]] == ["shapes/circle/cut.png"]
    thumbs = row.get_by_role("img", name=f"Some training images of {dataset_name}").locator("img")
    expect(thumbs).to_have_count(8)
    wait_for_pictures(page, "main li img")

    row.get_by_role("link", name=dataset_name).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(dataset_name)
    page.get_by_text("1 files are no usable images").click()
    expect(page.get_by_text("shapes/circle/cut.png")).to_be_visible()
    for name in CLASSES:
        expect(page.get_by_role("button", name=re.compile(f"^{name} \\d+"))).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("image \\d+$"))).to_have_count(64)
    page.get_by_role("button", name=re.compile("^square ")).first.click()
    expect(page.get_by_role("button", name=re.compile("^square, .* image"))).to_have_count(30)
    photograph(page, "dataset")
    assert list_faults(page) == []


def test_a_folder_of_class_folders_becomes_a_dataset(
    page: Page, yard: RunningYard, client: Client, folder: Path, again: str
) -> None:
    name = f"from-a-folder{again}"
    open_view(page, yard.url, "#/datasets")
    begin(page, folder, name)
    expect(row_of(page, name)).to_contain_text("ready", timeout=180_000)
    dataset = client.get_dataset(name)
    assert dataset["class_names"] == sorted(CLASSES)
    assert dataset["report"]["num_images"] == 90


def test_an_upload_goes_on_after_a_reload_with_the_same_file_and_no_other(
    page: Page, yard: RunningYard, client: Client, folder: Path, tmp_path: Path, again: str
) -> None:
    name = f"reloaded{again}"
    archive, other = make_zip(folder), make_zip(make_folder(tmp_path / "others", each=5, seed=1))
    open_view(page, yard.url, "#/datasets")
    slow_down(page)
    begin(page, archive, name)
    wait_for_half(row_of(page, name))
    page.on("dialog", lambda dialog: dialog.accept())  # the page asks before it is left
    page.reload()

    row = row_of(page, name)
    expect(row).to_contain_text(re.compile(r"arrived\.\s+Choose\s+shapes\.zip\s+again"))
    assert percent_of(row) >= 20
    row.get_by_label("The same file again").set_input_files(other)
    expect(row.get_by_role("alert")).to_contain_text("That is another one")
    row.get_by_label("The same file again").set_input_files(archive)
    expect(row).to_contain_text("ready", timeout=180_000)
    assert client.get_dataset(name)["report"]["num_images"] == 90


def test_the_upload_of_another_program_shows_how_much_has_arrived(
    page: Page, yard: RunningYard, client: Client, again: str
) -> None:
    name = f"of-another{again}"
    size, first = 4_000_000, b"x" * 1_000_000
    with httpx.Client(base_url=yard.url, trust_env=False, timeout=30) as other:
        made = other.post("/uploads", headers=TUS | {"Upload-Length": str(size)})
        path = made.headers["Location"]
        sent = other.patch(path, headers=PATCH | {"Upload-Offset": "0"}, content=first)
        assert sent.status_code == 204, sent.text
        dataset = other.post("/datasets", json={"name": name, "upload": path.rpartition("/")[2]}).json()
        open_view(page, yard.url, "#/datasets")
        expect(row_of(page, name)).to_contain_text("25 % 1.0 MB of 4.0 MB arrived")
        other.patch(path, headers=PATCH | {"Upload-Offset": str(len(first))}, content=first)
        expect(row_of(page, name)).to_contain_text("50 % 2.0 MB of 4.0 MB arrived")
        open_view(page, yard.url, f"#/datasets/{dataset['id']}")
        expect(page.locator("main")).to_contain_text("2.0 MB of 4.0 MB arrived")
        assert other.delete(f"/datasets/{dataset['id']}").is_success


def test_an_upload_is_paused_gone_on_with_and_cancelled(
    page: Page, yard: RunningYard, folder: Path, again: str
) -> None:
    name = f"cancelled{again}"
    open_view(page, yard.url, "#/datasets")
    slow_down(page)
    begin(page, make_zip(folder), name)
    row = row_of(page, name)
    wait_for_half(row)
    row.get_by_role("button", name="Pause").click()
    expect(row).to_contain_text("paused")
    row.get_by_role("button", name="Go on").click()
    expect(row.get_by_role("button", name="Pause")).to_be_visible()
    row.get_by_role("button", name="Cancel").click()
    expect(row).to_have_count(0)


def test_what_is_no_archive_is_refused_at_once(page: Page, yard: RunningYard, folder: Path) -> None:
    open_view(page, yard.url, "#/datasets")
    page.get_by_label("Archives to upload").set_input_files(folder / "circle" / "001.png")
    expect(page.get_by_role("alert")).to_contain_text("001.png")
    page.get_by_label("Folder to upload").set_input_files(folder / "circle")
    expect(page.get_by_role("dialog")).to_contain_text("a folder for each of two classes")
    expect(page.get_by_role("dialog").get_by_role("button", name="Upload")).to_be_disabled()
    assert list_faults(page) == []
