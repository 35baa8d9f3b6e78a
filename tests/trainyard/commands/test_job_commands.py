"""`trainyard jobs`, `show`, `logs`, `pause`, `resume`, `cancel`, `retry`, `rm`, on a real API."""

from __future__ import annotations

import json

import pytest

from alexnet_core.layout import log_key
from tests.api.served import Served
from tests.trainyard.commands.conftest import Run
from trainyard.client.synchronous import jobs
from trainyard.scheduling.leases import Ending, Lease, end_attempt


def queue(served: Served, **fields: object) -> str:
    return str(served.http.post("/jobs", json={"dataset": "digits"} | fields).json()["id"])


def test_jobs_are_listed_newest_first_and_filtered(served: Served, run: Run, trained: str) -> None:
    assert "trainyard train FOLDER" not in run("jobs").stdout
    waiting = queue(served, name="roses")
    lines = run("jobs").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["id", waiting, trained]
    assert {"roses", "queued", "0/20"} <= set(lines[1].split())
    assert {"running", "50.0%", "digits"} <= set(lines[2].split())
    assert [line.split()[0] for line in run("jobs", "--state", "queued").stdout.splitlines()] == ["id", waiting]
    assert run("jobs", "--state", "failed").stdout == "no such jobs\n"
    for option in ("--search=ROSE", "--recipe=quick"):
        found = [line.split()[0] for line in run("jobs", option).stdout.splitlines()]
        assert found == ["id", waiting] + ([trained] if "quick" in option else []), option
    assert run("jobs", "--recipe", "caffe").stdout == run("jobs", "--search", "tulip").stdout == "no such jobs\n"
    rows = json.loads(run("jobs", "--json", "--limit", "1").stdout)
    assert rows == served.http.get("/jobs?limit=1").json()["data"]


def test_more_jobs_than_a_page_holds_are_listed(served: Served, run: Run) -> None:
    for _ in range(103):
        queue(served)
    assert len(run("jobs", "-n", "102").stdout.splitlines()) == 103


def test_a_yard_without_jobs_says_how_to_begin_one(run: Run) -> None:
    assert "trainyard train FOLDER" in run("jobs").stdout
    done = run("show")
    assert (done.exit_code, "there is no job yet" in done.stderr) == (1, True)


def test_a_job_is_shown_with_its_curves(served: Served, run: Run, trained: str) -> None:
    for reference in (trained, "last"):
        said = run("show", reference).stdout
        for text in (trained, "running", "ds_digits", "quick", "█▅▁  0.500", "▁▅█  75.0%"):
            assert text in said, (text, said)
    assert json.loads(run("show", trained, "--json").stdout) == served.http.get(f"/jobs/{trained}").json()


def test_a_job_is_found_by_its_name_if_one_has_it(served: Served, run: Run) -> None:
    first = queue(served, name="[red]roses")
    assert first in run("show", "[red]roses").stdout
    assert "[red]roses" in run("show", first).stdout
    queue(served, name="[red]roses")
    done = run("show", "[red]roses")
    assert done.exit_code == 1
    assert "2 jobs are named" in done.stderr
    assert first in done.stderr
    assert "no job is named" in run("show", "tulips").stderr
    assert "job_not_found" in run("show", "job_nothing").stderr


def test_a_refusal_is_json_where_json_is_asked_for(run: Run) -> None:
    done = run("show", "job_nothing", "--json")
    assert (done.exit_code, done.stdout) == (1, "")
    assert json.loads(done.stderr)["error"]["code"] == "job_not_found"


def test_the_log_is_printed(served: Served, run: Run, trained: str) -> None:
    path = served.settings.data_dir / log_key(trained)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("one\ntwo\nthree\n")
    assert run("logs").stdout == "one\ntwo\nthree\n"
    assert run("logs", trained, "--tail", "2").stdout == "two\nthree\n"
    assert json.loads(run("logs", "--tail", "1", "--json").stdout) == {"job": trained, "lines": ["three"]}


def test_a_log_is_followed_until_the_job_has_ended(
    served: Served, run: Run, trained: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = served.settings.data_dir / log_key(trained)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("one\ntw")

    def go_on(seconds: float) -> None:
        if not path.read_text().endswith("three\nhalf"):
            path.write_text("one\ntwo\nthree\nhalf")
            return
        with served.database.writing() as session:
            end_attempt(session, Lease(trained, 1, "wrk_test"), Ending(succeeded=True), first_backoff_s=1)

    monkeypatch.setattr(jobs, "sleep", go_on)
    assert run("logs", "-f").stdout == "one\ntwo\nthree\nhalf"
    assert run("logs", "-f", "--json").exit_code == 2


def test_jobs_are_paused_resumed_cancelled_retried_and_removed(served: Served, run: Run) -> None:
    jobs = [queue(served), queue(served)]
    for command, state in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
        done = run(command, *jobs)
        assert done.exit_code == 0, done.output
        assert done.stdout.splitlines() == [f"{state} {job}" for job in jobs]
    again = run("retry", jobs[0], "--from", "start", "--set", "epochs=2").stdout.strip()
    retried = served.http.get(f"/jobs/{again}").json()
    assert (retried["parent_id"], retried["config"]["epochs"]) == (jobs[0], 2)
    assert run("rm", again).exit_code == 1, "it has not ended"
    either = json.loads(run("jobs", "--state", "cancelled", "--state", "queued", "--json").stdout)
    assert {row["id"] for row in either} == {*jobs, again}
    assert json.loads(run("rm", jobs[1], "--json").stdout) == {"removed": [jobs[1]]}
    assert served.http.get(f"/jobs/{jobs[1]}").status_code == 404
    assert json.loads(run("pause", again, "--json").stdout)[0]["state"] == "paused"


@pytest.mark.parametrize("command", ["pause", "resume", "cancel"])
def test_a_job_that_can_not_be_changed_says_why(run: Run, served: Served, command: str) -> None:
    job = queue(served)
    run("cancel", job)
    done = run(command, job)
    if command == "cancel":
        assert done.exit_code == 0, "repeating a cancel is harmless"
    else:
        assert (done.exit_code, "illegal_transition" in done.stderr) == (1, True)


def test_a_job_that_has_written_nothing_is_said_to(served: Served, run: Run) -> None:
    job_id = served.add_job()
    done = run("logs", job_id)
    assert (done.exit_code, done.stdout) == (0, "")
    assert f"the trainers of job {job_id} have written nothing yet" in done.stderr


def test_a_refusal_names_commands_rather_than_routes(run: Run) -> None:
    done = run("show", "job_00000000000000000000000000")
    assert (done.exit_code, "`trainyard jobs` lists yours" in done.stderr) == (1, True), done.stderr
    assert "GET /" not in done.stderr
