"""The form of a new job refuses what the API refuses, at its field, and what it shows beforehand is what comes."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Photograph
from tests.browser.watching import Watch, list_faults, open_view
from tests.integration.running import RunningYard
from trainyard.client import Client


def bounds_of(schema: dict[str, Any]) -> dict[str, list[float]]:
    """The values just outside of each number's bounds."""
    found: dict[str, list[float]] = {}
    for name, given in schema["properties"].items():
        shapes = [shape for shape in given.get("anyOf", [given]) if shape.get("type") in {"integer", "number"}]
        for shape in (shape for shape in shapes if "enum" not in shape):
            step = 1 if shape["type"] == "integer" else 0.001
            outside = [shape["minimum"] - step] if "minimum" in shape else []
            outside += [shape["maximum"] + step] if "maximum" in shape else []
            outside += [shape[bound] for bound in ("exclusiveMinimum", "exclusiveMaximum") if bound in shape]
            found[name] = outside
    return found


def test_each_bound_is_refused_at_its_field_as_by_the_api(page: Page, yard: RunningYard, http: httpx.Client) -> None:
    bounds = bounds_of(http.get("/recipes/quick").json()["config_schema"])
    assert len(bounds) > 30
    open_view(page, yard.url, "#/new?dataset=digits&recipe=quick")
    page.get_by_text("All options").click()
    for name, outside in bounds.items():
        for value in outside:
            field = page.get_by_role("textbox", name=name, exact=True).first
            before = field.input_value()
            field.fill(str(value))
            expect(field).to_have_attribute("aria-invalid", "true")
            described = (field.get_attribute("aria-describedby") or "").split()[0]
            expect(page.locator(f"[id='{described}']")).to_contain_text(name)
            body = {"dataset": "digits", "recipe": "quick", "overrides": {name: value}}
            refused = http.post("/recipes/preview", json=body)
            assert refused.status_code == 422, (name, value)
            assert refused.json()["error"]["param"] == f"overrides.{name}"
            field.fill(before)
            expect(field).not_to_have_attribute("aria-invalid", "true")


def test_a_job_that_is_not_valid_is_not_started_and_leads_to_its_field(
    page: Page, yard: RunningYard, client: Client, watch: Watch
) -> None:
    watch.expect("status of 422")
    open_view(page, yard.url, "#/new?dataset=digits&recipe=quick")
    field = page.get_by_role("textbox", name="epochs", exact=True)
    field.fill("0")
    page.get_by_role("button", name="Start training").click()
    expect(field).to_be_focused()
    field.fill("3")
    # what only the yard can know: the options do not fit together
    page.get_by_text("All options").click()
    page.get_by_role("textbox", name="momentum", exact=True).fill("0")
    expect(page.get_by_role("alert")).to_contain_text("nesterov needs a momentum above 0")
    expect(page.get_by_role("heading", level=1)).to_have_text("New job")
    assert list_faults(page) == []


def test_the_learning_rate_that_is_shown_is_the_jobs(
    page: Page, yard: RunningYard, client: Client, photograph: Photograph, again: str
) -> None:
    name = f"as previewed{again}"
    open_view(page, yard.url, "#/new?dataset=digits&recipe=quick")
    expect(page.get_by_text("Learning rate: rises to 0.05")).to_be_visible()
    with page.expect_response(re.compile("/recipes/preview$")) as told:
        page.get_by_role("textbox", name="epochs", exact=True).fill("2")
    preview = told.value.json()
    page.get_by_label("Name", exact=True).fill(name)
    expect(page.get_by_text(f"{preview['steps']}, 2 epochs")).to_be_visible()
    photograph(page, "new-job")
    page.get_by_role("button", name="Start training").dblclick()
    page.wait_for_url(re.compile("#/jobs/job_"))

    made = [job for job in client.iter_jobs() if job["name"] == name]
    assert len(made) == 1, "a double click made more than one job"
    ended = client.wait(made[0]["id"], timeout_s=300)
    assert ended["state"] == "succeeded"
    assert ended["progress"]["steps"] == preview["steps"]
    shown = dict(preview["lr"])
    trained = {point["step"]: point["lr"] for point in client.get_metrics(made[0]["id"], max_points=2000)["by_step"]}
    both = shown.keys() & trained.keys()
    assert len(both) > 5
    for step in both:
        assert trained[step] == pytest.approx(shown[step], rel=1e-6)


def test_a_clone_has_the_options_of_its_job(page: Page, yard: RunningYard, client: Client) -> None:
    overrides = {"epochs": 1, "lr": 0.02}
    job = client.create_job("digits", overrides=overrides, name="base", metadata={"team": "a"})
    open_view(page, yard.url, f"#/new?from={job['id']}")
    expect(page.get_by_role("textbox", name="lr", exact=True)).to_have_value("0.02")
    expect(page.get_by_label("Name", exact=True)).to_have_value("base again")
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url(re.compile("#/jobs/job_"))
    clone = client.get_job(page.url.rpartition("/")[2].partition("?")[0])
    assert clone["id"] != job["id"]
    assert clone["config"] == job["config"]
    assert clone["metadata"] == {"team": "a"}


def test_a_form_that_is_sent_before_its_options_came_starts_the_job_when_they_come(
    page: Page, yard: RunningYard, http: httpx.Client
) -> None:
    held: list[Route] = []
    page.route(re.compile("/recipes/quick"), lambda route: held.append(route))
    open_view(page, yard.url, "#/new?dataset=digits&recipe=quick")
    page.get_by_label("Name", exact=True).fill("sent at once")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("button", name="Start training")).to_have_attribute("aria-busy", "true")
    assert len(held) == 1
    held[0].continue_()
    expect(page).to_have_url(re.compile("#/jobs/job_"))
    job_id = page.url.rpartition("/")[2]
    assert http.get(f"/jobs/{job_id}").json()["name"] == "sent at once"
    http.post(f"/jobs/{job_id}/cancel")


def test_a_form_that_was_left_before_its_data_came_does_not_filter_the_jobs(page: Page, yard: RunningYard) -> None:
    data: list[Route] = []
    chunks: list[Route] = []
    page.route(re.compile("/datasets[?]"), lambda route: data.append(route))
    page.route(re.compile("/assets/Jobs-.*js"), lambda route: chunks.append(route))
    open_view(page, yard.url, "#/new")
    page.get_by_role("link", name="Jobs", exact=True).click()
    expect(page).to_have_url(re.compile("#/jobs$"))
    with page.expect_response(re.compile("/recipes/")):  # what the form asks for next
        data[0].continue_()
    page.wait_for_timeout(200)
    chunks[0].continue_()
    expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
    assert page.url.endswith("#/jobs")
