"""On a phone: the actions of a job stay at hand, jobs are selected by touch, and what stands in a row fits in it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import PHONE
from tests.browser.training import start_job, wait_for_job
from tests.browser.watching import Watch, list_faults, open_view
from tests.integration.running import RunningYard


@pytest.fixture
def phone(browser: Browser, watch: Watch) -> Iterator[Page]:
    """A page in a browser that is touched."""
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True)
    watch.follow(context)
    yield context.new_page()
    context.close()
    assert watch.wrong() == []


def test_the_actions_of_a_job_stay_in_view(phone: Page, yard: RunningYard, http: httpx.Client) -> None:
    job_id = start_job(http, "at hand", epochs=50)["id"]
    http.post(f"/jobs/{job_id}/pause").raise_for_status()
    wait_for_job(http, job_id, lambda now: now["state"] == "paused")  # curves that grow would move what is measured
    open_view(phone, yard.url, f"#/jobs/{job_id}")
    cancel = phone.get_by_role("button", name="Cancel", exact=True)
    expect(cancel).to_be_in_viewport(ratio=1)
    speed = phone.get_by_role("figure", name="Images/s")
    expect(speed).to_be_attached()
    phone.locator("main").evaluate("main => main.scrollTo(0, main.scrollHeight)")
    expect(speed).to_be_in_viewport(ratio=1)
    below, above = cancel.bounding_box(), speed.bounding_box()
    assert below is not None
    assert above is not None
    assert above["y"] + above["height"] <= below["y"], "nothing lies under the actions"
    expect(cancel).to_be_in_viewport(ratio=1)
    cancel.tap()
    phone.get_by_role("dialog").get_by_role("button", name="Cancel for good").tap()
    expect(phone.get_by_role("button", name="Retry")).to_be_in_viewport(ratio=1, timeout=30_000)


def test_jobs_are_selected_by_touch_and_compared(
    phone: Page, yard: RunningYard, http: httpx.Client, again: str
) -> None:
    names = (f"touched one{again}", f"touched two{again}")
    for name in names:
        http.post(f"/jobs/{start_job(http, name)['id']}/pause").raise_for_status()
    open_view(phone, yard.url, "#/jobs?q=touched")
    phone.get_by_role("button", name="Select").tap()
    for name in names:
        phone.get_by_text(name).tap()
        expect(phone.get_by_role("checkbox", name=f"Select {name}")).to_be_checked()
    assert list_faults(phone) == []
    phone.get_by_role("region", name="Selection").get_by_role("link", name="Compare").tap()
    expect(phone.get_by_role("heading", level=1)).to_have_text("Compare 2 jobs")
    phone.go_back()
    expect(phone.get_by_role("heading", level=1)).to_have_text("Jobs")
    phone.get_by_text(names[0]).tap()  # selecting has ended with the view
    expect(phone).to_have_url(re.compile("#/jobs/job_"))


def test_the_ways_to_give_a_picture_are_even_at_320_px(phone: Page, yard: RunningYard) -> None:
    phone.set_viewport_size({"width": 320, "height": 640})
    open_view(phone, yard.url, "#/predict")
    buttons = [phone.get_by_role("button", name=name, exact=True) for name in ("Choose", "Camera", "Test image")]
    boxes = [box for button in buttons if (box := button.bounding_box()) is not None]
    assert len({box["y"] for box in boxes}) == 1
    assert max(box["width"] for box in boxes) - min(box["width"] for box in boxes) < 1
    for button in buttons:
        assert button.evaluate("button => [...button.children].every(one => one.scrollWidth <= one.clientWidth + 1)")
