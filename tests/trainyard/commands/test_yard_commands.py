from __future__ import annotations

import json
import webbrowser

import pytest

from tests.api.routes.test_workers import add_worker
from tests.api.served import Served
from tests.trainyard.commands.conftest import Run


def test_recipes_are_listed_and_one_is_shown_in_full(run: Run, served: Served) -> None:
    listed = run("recipes").stdout
    assert {"quick", "torchvision", "paper-2012"} <= {line.split()[0] for line in listed.splitlines()}
    assert "57,044,810" in listed
    assert "epochs=20" in run("recipes", "quick").stdout.split()
    assert json.loads(run("recipes", "quick", "--json").stdout) == served.http.get("/recipes/quick").json()
    assert "recipe_not_found" in run("recipes", "slow").stderr


def test_workers_are_listed_with_what_they_do(run: Run, served: Served) -> None:
    assert "trainyard worker" in run("workers").stdout
    add_worker(served, "wrk_1", "cpu", "cuda:0")
    assert "cpu free, cuda:0 free" in run("workers").stdout
    reading = {"name": "H100", "memory_bytes": 80_000_000_000, "memory_used_bytes": 9_100_000_000, "utilisation": 0.62}
    add_worker(served, "wrk_2", "cuda:0", device_readings=[reading])
    line = next(line for line in run("workers").stdout.splitlines() if "wrk_2" in line)
    assert "cuda:0 free (62%, 9.1 GB of 80.0 GB)  H100 " in line
    assert json.loads(run("workers", "--json").stdout)[1]["id"] == "wrk_1"
    assert json.loads(run("workers", "--state", "lost", "--json").stdout) == []
    either = run("workers", "--state", "lost", "--state", "live", "--json")
    assert [row["id"] for row in json.loads(either.stdout)] == ["wrk_2", "wrk_1"]


def test_the_queue_says_why_a_job_waits(run: Run, served: Served) -> None:
    assert run("queue").stdout == "no job waits\n"
    job = served.http.post("/jobs", json={"dataset": "digits"}).json()["id"]
    line = run("queue").stdout.splitlines()[1]
    assert line.split()[:2] == ["1", job]
    assert "waits for a worker: none is running" in line
    assert json.loads(run("queue", "--json").stdout)[0]["waiting_for"] == "no_live_worker"


@pytest.mark.parametrize("has_browser", [True, False])
def test_the_page_is_opened(run: Run, served: Served, monkeypatch: pytest.MonkeyPatch, has_browser: bool) -> None:
    opened: list[str] = []

    def note(url: str) -> bool:
        opened.append(url)
        return has_browser

    monkeypatch.setattr(webbrowser, "open", note)
    done = run("open")
    assert (opened, done.stdout) == ([served.url + "/"], served.url + "/\n")
    assert done.exit_code == (0 if has_browser else 1)
