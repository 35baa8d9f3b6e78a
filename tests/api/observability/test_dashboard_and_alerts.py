"""The alert rules and the dashboard of deploy/monitoring, judged by Prometheus itself where it is installed."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from api.observability.serving_observer import LoadOutcome
from tests.api.served import Served, png, wait_until

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy/monitoring"
RULES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "trainyard.rules.yml").read_text())["groups"][0]["rules"]
CASES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "trainyard.rules.test.yml").read_text())["tests"]
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "grafana-dashboard.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = {target["expr"] for panel in PANELS for target in panel["targets"]}
PAGE = (ROOT / "docs/how-to/watch-a-yard.md").read_text()

needs_prometheus = pytest.mark.skipif(
    None in (shutil.which("promtool"), shutil.which("prometheus")),
    reason="Prometheus is not installed (Debian: prometheus)",
)


@pytest.fixture
def used(served: Served) -> Served:
    """A yard in which everything has been counted once."""
    metrics = served.metrics
    served.add_checkpoint(served.add_job(), 1)
    wait_until(lambda: served.http.get("/readyz").json()["model"] == "ok")
    served.http.post("/predict", content=png(), headers={"Content-Type": "image/png"})
    served.http.get("/jobs/nowhere")
    metrics.decoded([0.01], large=False)
    metrics.decoded([2.0], large=True)
    metrics.queued(1)
    metrics.computed(2, 0.01, [0.001, 0.001])
    for outcome in LoadOutcome:
        metrics.loaded(0.1, outcome)
    metrics.holds(1, 1000)
    metrics.serves(1)
    metrics.leases_lost(1)
    return served


def labels_by_metric(served: Served) -> dict[str, set[str]]:
    """Every series that `/metrics` tells, with the names of its labels and those that Prometheus adds."""
    found: dict[str, set[str]] = {}
    for line in served.http.get("/metrics").text.splitlines():
        if not line.startswith("#"):
            name, _, labels = line.rpartition(" ")[0].partition("{")
            found.setdefault(name, {"instance", "job"}).update(re.findall(r'(\w+)="', labels))
    return found


def test_rules_and_dashboard_name_only_what_is_told(used: Served) -> None:
    told = labels_by_metric(used)
    for query in [*QUERIES, *(rule["expr"] for rule in RULES)]:
        for name in re.findall(r"trainyard_\w+", query.replace('job="trainyard"', "")):
            assert name in told, f"{query}: there is no {name}"
            for selector in re.findall(rf"{name}\{{(.*?)\}}", query):
                assert set(re.findall(r"(\w+)[=!]~?\"", selector)) <= told[name], query
        for grouped in re.findall(r"by \((.*?)\)", query):
            names = set(grouped.split(", "))
            assert any(names <= told[name] | {"le"} for name in re.findall(r"trainyard_\w+", query)), query


def test_every_metric_is_in_the_table_and_on_the_dashboard(used: Served) -> None:
    told = {re.sub(r"_(bucket|sum|count)$", "", name) for name in labels_by_metric(used)}
    listed = {
        name
        for line in PAGE.splitlines()
        if line.startswith("| `trainyard_")
        for name in re.findall(r"`(trainyard_\w+)", line)
    }
    assert listed == told
    shown = {
        re.sub(r"_(bucket|sum|count)$", "", name) for query in QUERIES for name in re.findall(r"trainyard_\w+", query)
    }
    assert shown == told


def test_every_alert_has_a_yard_in_which_it_fires_and_is_silent_in_one_that_works() -> None:
    alerts = {rule["alert"] for rule in RULES}
    healthy, *broken = CASES
    assert {case["alertname"] for case in healthy["alert_rule_test"]} == alerts
    assert not any("exp_alerts" in case for case in healthy["alert_rule_test"])
    fired = {case["alertname"] for one in broken for case in one["alert_rule_test"] if case.get("exp_alerts")}
    assert fired == alerts
    assert {rule["labels"]["severity"] for rule in RULES} == {"critical", "warning"}
    assert set(re.findall(r"^\| `(Trainyard\w+)`", PAGE, re.M)) == alerts


def test_panels_lie_beside_each_other_and_have_texts() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells), panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert all(panel["title"] and panel["description"] and panel["targets"] for panel in PANELS)


@needs_prometheus
def test_prometheus_accepts_the_rules_and_they_fire_as_they_should() -> None:
    for command in (["check", "config", "prometheus.yml"], ["test", "rules", "trainyard.rules.test.yml"]):
        judged = subprocess.run(["promtool", *command], cwd=FOLDER, capture_output=True, text=True)
        assert judged.returncode == 0, judged.stdout + judged.stderr


@needs_prometheus
def test_prometheus_scrapes_a_yard_and_answers_every_query_of_the_dashboard(used: Served, tmp_path: Path) -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "250ms", "evaluation_interval": "1s"}
    config["rule_files"] = [str(FOLDER / "trainyard.rules.yml")]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{used.port}"]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [
            *("prometheus", f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'tsdb'}"),
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    http = httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", trust_env=False, timeout=10)

    def ask(query: str) -> list[Any]:
        written = query.replace("$__rate_interval", "5m").replace("$instance", ".*")
        answer = http.get("/query", params={"query": written})
        assert answer.status_code == 200, (query, answer.text)
        result: list[Any] = answer.json()["data"]["result"]
        return result

    def is_scraped() -> bool:
        try:
            return ask("count_over_time(up[1m]) > 2") != []
        except (httpx.TransportError, AssertionError):
            return False

    try:
        wait_until(is_scraped, timeout_s=30)
        assert [sample["value"][1] for sample in ask('up{job="trainyard"}')] == ["1"]
        without = {query for query in QUERIES if not ask(query)}
        assert without == set(), "each has been counted, so each has an answer"
    finally:
        http.close()
        server.terminate()
        server.wait(timeout=20)
