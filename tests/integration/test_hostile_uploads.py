"""Every hostile and odd archive is sent to a real yard: what it costs the API, what is answered, and what it leaves."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from alexnet_core.data.archives.members import ArchiveLimits
from tests.hostile_datasets.case import Case
from tests.hostile_datasets.table import CASES
from tests.integration.running import PATIENCE_S, RunningYard, running_yard
from tests.processes import is_running_module

pytestmark = [pytest.mark.end_to_end, pytest.mark.chaos]

MAX_CPU_S, MAX_MEMORY_KB = 2.0, 300_000  #: of the API's process, for each archive
AT_ONCE = 50  #: are sent before any is waited for: an owner may have a hundred uploads
GONE_WITHIN_S = 60.0
SETTLED = {"ready", "rejected"}


def test_each_gets_its_answer_costs_the_api_little_and_leaves_nothing(tmp_path: Path) -> None:
    beside = tmp_path / "yard"
    beside.mkdir()
    settings = {"TRAINYARD_MAX_DATASET_FILES": str(ArchiveLimits().max_entries)}  # which the table is about
    running = running_yard(beside / "data", **settings)
    with running as yard, httpx.Client(base_url=yard.url, trust_env=False, timeout=120) as http:
        web = [pid for pid in yard.descendants() if is_running_module(pid, "api.web_process")]
        datasets: dict[str, dict[str, Any]] = {}
        for start in range(0, len(CASES), AT_ONCE):
            some = [*enumerate(CASES)][start : start + AT_ONCE]
            ids = {name: send(http, web, number, name) for number, name in some}
            datasets |= {name: wait_until_settled(http, dataset_id) for name, dataset_id in ids.items() if dataset_id}
        assert set(CASES) - set(datasets) == {"an empty file"}
        wrong = {name: said for name, dataset in datasets.items() if (said := find_wrong(http, CASES[name], dataset))}
        assert wrong == {}
        kept = {dataset["id"] for dataset in datasets.values() if dataset["state"] == "ready"}
        wait_until_nothing_is_left(yard, kept)
        assert [path.name for path in beside.iterdir()] == ["data"]


def send(http: httpx.Client, web: list[int], number: int, name: str) -> str:
    """Send an archive, and check what that costs the API's processes. Returns "" for one that is refused at once."""
    content = CASES[name].build()
    before_s, before_kb = cpu_s(web), begin_peak(web)
    answer = http.post(
        "/datasets",
        params={"name": f"hostile-{number}"},
        content=content,
        headers={"Content-Type": "application/octet-stream"},
    )
    assert answer.status_code == (202 if content else 422), (name, answer.text)
    assert cpu_s(web) - before_s < MAX_CPU_S, name
    assert peak_kb(web) - before_kb < MAX_MEMORY_KB, name
    return str(answer.json().get("id", ""))


def wait_until_settled(http: httpx.Client, dataset_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        dataset: dict[str, Any] = http.get(f"/datasets/{dataset_id}").json()
        if dataset["state"] in SETTLED:
            return dataset
        assert time.monotonic() < deadline, dataset
        time.sleep(0.1)


def find_wrong(http: httpx.Client, case: Case, dataset: dict[str, Any]) -> str:
    """Say what is not as the table has it."""
    found: tuple[str, Any]
    expected: tuple[str, Any]
    if case.problem:
        report = http.get(f"/datasets/{dataset['id']}/report").json().get("report", {})
        found, expected = (dataset["state"], report.get("problem")), ("rejected", case.problem)
    else:
        counted = sum(dataset[f"num_{split}"] or 0 for split in ("train", "val", "test"))
        found, expected = (dataset["state"], counted), ("ready", case.num_images)
    return "" if found == expected else f"{found} is not {expected}: {dataset['error']}"


def wait_until_nothing_is_left(yard: RunningYard, kept: set[str]) -> None:
    deadline = time.monotonic() + GONE_WITHIN_S
    while True:
        uploads = {path.name for path in (yard.folder / "uploads").iterdir()} - {"folder-id"}
        packs = {path.name for path in (yard.folder / "packs").iterdir()} - kept - {"ds_digits"}
        if not uploads and not packs:
            return
        assert time.monotonic() < deadline, (uploads, packs)
        time.sleep(0.2)


def cpu_s(pids: list[int]) -> float:
    used = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13] for pid in pids]
    return sum(int(ticks) for both in used for ticks in both) / os.sysconf("SC_CLK_TCK")


def begin_peak(pids: list[int]) -> int:
    """Set the peak of memory back, and return what is resident now, in kB."""
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak_kb(pids)


def peak_kb(pids: list[int]) -> int:
    return sum(int(Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()[0]) for pid in pids)
