"""Every view with something in it: by axe in both themes; and at a phone's width, at 320 px and magnified twice."""

from __future__ import annotations

import httpx
import pytest
from playwright.sync_api import Page, ViewportSize

from tests.browser.conftest import PHONE, Photograph
from tests.browser.training import start_job, wait_for_end
from tests.browser.watching import Watch, list_faults, open_view, scrolls_sideways, wait_until
from tests.integration.running import RunningYard

NARROW = ViewportSize(width=320, height=640)
MAGNIFIED = ViewportSize(width=640, height=400)  #: what is left of 1280 x 800 at 200 %
VIEWS = {
    "jobs": "#/jobs",
    "new": "#/new?dataset=digits",
    "job": "#/jobs/{trained}",
    **{tab: f"#/jobs/{{trained}}/{tab}" for tab in ("evaluation", "checkpoints", "events", "log", "config")},
    "compare": "#/compare?jobs={trained},{other}",
    "datasets": "#/datasets",
    "dataset": "#/datasets/ds_digits",
    "predict": "#/predict?model={trained}&image=ds_digits/test/7",
    "yard": "#/yard",
    "settings": "#/settings",
}


@pytest.fixture(scope="module")
def jobs(yard: RunningYard) -> dict[str, str]:
    """The ids of two jobs that have succeeded; one that is paused is there as well."""
    with httpx.Client(base_url=yard.url, trust_env=False, timeout=30) as http:
        trained = start_job(http, "base", epochs=2)["id"]
        other = start_job(http, "a name that is longer than a narrow window is wide", epochs=2, lr=0.02)["id"]
        waiting = start_job(http, "night run")["id"]
        http.post(f"/jobs/{waiting}/pause").raise_for_status()
        for job_id in (trained, other):
            assert wait_for_end(http, job_id)["state"] == "succeeded"
    return {"trained": trained, "other": other}


def settle(page: Page) -> None:
    """Wait until what a view shows at first has come."""
    wait_until(
        page,
        """document.querySelector('main').innerText !== '' &&
        document.querySelector('.skeleton, [aria-busy="true"]') === null &&
        [...document.images].every((image) => image.complete || image.loading === 'lazy')""",
        timeout_s=60,
    )


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_has_no_serious_fault_and_fits_narrow_windows(
    page: Page, yard: RunningYard, jobs: dict[str, str], name: str, photograph: Photograph, watch: Watch
) -> None:
    watch.expect(r"status of 503 .*/(evaluation|explain|similar)")  # being computed: the page asks again
    page.emulate_media(color_scheme="light")
    open_view(page, yard.url, VIEWS[name].format(**jobs))
    settle(page)
    assert list_faults(page) == []
    photograph(page, name)
    page.emulate_media(color_scheme="dark")
    assert list_faults(page) == []
    photograph(page, f"{name}-dark")
    for size in (MAGNIFIED, NARROW, PHONE):
        page.set_viewport_size(size)
        assert not scrolls_sideways(page), size
    assert list_faults(page) == []
    page.emulate_media(color_scheme="light")
    assert list_faults(page) == []
    photograph(page, f"{name}-phone")
