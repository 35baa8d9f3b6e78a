from __future__ import annotations

import json

from tests.api.served import Served
from tests.trainyard.commands.conftest import Run


def test_what_differs_between_two_jobs_is_shown(served: Served, run: Run, trained: str) -> None:
    body = {"dataset": "digits", "recipe": "quick", "name": "longer", "seed": 2, "overrides": {"epochs": 7}}
    other = served.http.post("/jobs", json=body).json()["id"]
    done = run("compare", trained, "longer")
    assert done.exit_code == 0, done.output
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if not line.startswith(" ")}
    assert rows["job"] == [trained, "longer"]
    assert rows["epochs"] == ["3", "7"]
    assert rows["seed"] == ["1", "2"]
    assert "recipe" not in rows, "they are of the same recipe"
    assert rows["loss"] == ["█▅▁"]
    assert rows["validation"] == ["▁▅█"]
    found = json.loads(run("compare", trained, other, "--json").stdout)
    assert [job["id"] for job in found["jobs"]] == [trained, other]
    assert found["differences"]["epochs"] == [3, 7]


def test_one_job_has_nothing_to_be_compared_with(run: Run) -> None:
    done = run("compare", "last")
    assert (done.exit_code, "2 to 20" in done.stderr) == (2, True)
