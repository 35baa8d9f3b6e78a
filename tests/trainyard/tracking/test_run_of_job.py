"""One run of a job, also where several exports of it begin at once; on a real tracking server."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import httpx
import pytest

from trainyard.tracking.mlflow_server import Json, MlflowError, MlflowServer, MlflowSettings
from trainyard.tracking.run_of_job import JOB_TAG, STATE_TAG, find_or_make_run, id_of, tags_of


class AllMakeOne(MlflowServer):
    """The server as an export meets it when each of them makes its run before one of them looks again."""

    def __init__(self, uri: str, barrier: threading.Barrier) -> None:
        super().__init__(uri, MlflowSettings())
        self._barrier: threading.Barrier | None = barrier

    def make_run(self, experiment_id: str, name: str, start_ms: int, tags: dict[str, str]) -> Json:
        run = super().make_run(experiment_id, name, start_ms, tags)
        if self._barrier is not None:
            self._barrier.wait(60)
            self._barrier = None
        return run


def find(server: MlflowServer, experiment_id: str, job_id: str, **options: Any) -> str:
    tags = {STATE_TAG: "running"}
    return id_of(find_or_make_run(server, experiment_id, job_id, name=job_id, start_ms=1, tags=tags, **options))


@pytest.mark.slow
def test_exports_that_begin_at_once_make_one_run(mlflow: str) -> None:
    barrier = threading.Barrier(3)
    servers = [AllMakeOne(mlflow, barrier) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        experiments = set(pool.map(lambda each: each.find_or_make_experiment("at once"), servers))
        assert len(experiments) == 1, "the experiment is one, too"
        [experiment_id] = experiments
        found = set(pool.map(lambda each: find(each, experiment_id, "job_1"), servers))
    runs = servers[0].list_runs(experiment_id, JOB_TAG, "job_1")
    assert [id_of(run) for run in runs] == list(found), "the others took theirs back"
    assert find(servers[0], experiment_id, "job_1") in found
    for each in servers:
        each.__exit__(None, None, None)


class Memory:
    """A tracking server's runs, with a transport that answers as one does."""

    def __init__(self, *runs: Json) -> None:
        self.runs, self.deleted, self.may_delete = list(runs), 0, True
        self.numbers = count(1)
        self.made_by_another = 0  #: so many times does another export make a run together with ours

    def answer(self, request: httpx.Request) -> httpx.Response:
        wanted: Json = httpx.Response(200, content=request.content).json()
        match request.url.path.rpartition("/")[2]:
            case "search":
                return httpx.Response(200, json={"runs": self.runs})
            case "create":
                made = run(f"own-{next(self.numbers)}", **{tag["key"]: tag["value"] for tag in wanted["tags"]})
                self.runs.append(made)
                if self.made_by_another:
                    self.made_by_another -= 1
                    self.runs.append(run(f"other-{next(self.numbers)}", **{JOB_TAG: "job_1"}))
                return httpx.Response(200, json={"run": made})
            case "delete" if not self.may_delete:
                return httpx.Response(403, text="Permission denied")
            case "delete":
                self.runs = [each for each in self.runs if id_of(each) != wanted["run_id"]]
                self.deleted += 1
            case "log-batch":
                [one] = [each for each in self.runs if id_of(each) == wanted["run_id"]]
                one["data"]["tags"] = [*({"key": k, "value": v} for k, v in tags_of(one).items()), *wanted["tags"]]
                self.runs = [each for each in self.runs if tags_of(each)[JOB_TAG] == "job_1"]
        return httpx.Response(200, json={})

    @property
    def server(self) -> MlflowServer:
        return MlflowServer("http://runs.test", MlflowSettings(), transport=httpx.MockTransport(self.answer))


def run(run_id: str, **tags: str) -> Json:
    listed = [{"key": key, "value": value} for key, value in tags.items()]
    return {"info": {"run_id": run_id}, "data": {"tags": listed}}


def test_a_run_of_another_export_that_is_being_made_is_waited_for() -> None:
    memory = Memory(run("other", **{JOB_TAG: "job_1"}))
    waits: list[float] = []

    def other_goes_on(seconds: float) -> None:
        waits.append(seconds)
        memory.runs[0]["data"]["tags"].append({"key": STATE_TAG, "value": "running"})

    with memory.server as server:
        assert find(server, "0", "job_1", sleep=other_goes_on) == "other"
    assert (len(waits), len(memory.runs)) == (1, 1)


def test_a_run_whose_export_was_killed_before_it_counted_is_taken_over() -> None:
    memory = Memory(run("left", **{JOB_TAG: "job_1"}))
    waits: list[float] = []
    with memory.server as server:
        assert find(server, "0", "job_1", sleep=waits.append) == "left"
    assert 0 < sum(waits) < 30
    assert [id_of(each) for each in memory.runs] == ["left"]


@pytest.mark.parametrize("may_delete", [True, False])
def test_a_run_is_taken_back_where_another_export_made_one_as_well(may_delete: bool) -> None:
    memory = Memory()
    memory.made_by_another, memory.may_delete = 1, may_delete

    def other_takes_its_own_back(seconds: float) -> None:
        memory.runs = [each for each in memory.runs if not id_of(each).startswith("other")]

    with memory.server as server:
        assert find(server, "0", "job_1", sleep=other_takes_its_own_back) == "own-3"
    assert [id_of(each) for each in memory.runs] == ["own-3"], "that one is no run of the job any more"
    assert memory.deleted == may_delete


def test_exports_that_never_stop_meeting_give_up_with_what_to_do() -> None:
    memory = Memory()
    memory.made_by_another = 1000

    def others_take_theirs_back(seconds: float) -> None:
        memory.runs.clear()

    with memory.server as server, pytest.raises(MlflowError, match="give the command again") as told:
        find(server, "0", "job_1", sleep=others_take_theirs_back)
    assert told.value.code == "mlflow_run_contested"
