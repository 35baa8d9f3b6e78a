"""Real processes that count in one folder, of which some end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from api.observability.process_files import MetricsFolder

_COUNTS = """
import os, sys
from api.observability.metrics import Metrics
from api.observability.process_files import ProcessRole, announce
from api.observability.serving_observer import LoadOutcome
metrics = Metrics()
announce(ProcessRole(sys.argv[1]))
metrics.queued(int(sys.argv[2]))
metrics.serves(int(sys.argv[2]))
metrics.computed(2, 0.01, [0.001, 0.002])
metrics.loaded(1.5, LoadOutcome.LOADED)
print("counted", flush=True)
sys.stdin.read()
"""
_SHOWS = """
from api.observability.exposition import Exposition
from api.observability.metrics import Metrics
print(Exposition(Metrics()).render("")[0].decode(), end="")
"""


class Counting:
    """A process that has counted and waits."""

    def __init__(self, folder: MetricsFolder, role: str, queued: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _COUNTS, role, str(queued)],
            env=os.environ | folder.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "counted\n"

    def kill(self) -> int:
        self.process.kill()
        self.process.communicate()
        return self.process.pid


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[MetricsFolder]:
    folder = MetricsFolder(tmp_path)
    yield folder
    folder.close()


def values(folder: MetricsFolder) -> dict[str, float]:
    """What any process of the API would tell."""
    shown = subprocess.run(
        [sys.executable, "-c", _SHOWS], env=os.environ | folder.environment, capture_output=True, text=True, check=True
    )
    lines = [line.rpartition(" ") for line in shown.stdout.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_counts_of_all_processes_are_added_and_gauges_of_ended_ones_do_not_stay(folder: MetricsFolder) -> None:
    web, engine = Counting(folder, "web", 0), Counting(folder, "engine", 7)
    try:
        both = values(folder)
        assert both["trainyard_predict_batch_images_sum"] == 4
        assert both['trainyard_predict_batch_images_bucket{le="2.0"}'] == 2
        assert both['trainyard_model_loads_total{outcome="loaded"}'] == 2
        assert both["trainyard_predict_queued_images"] == 7
        assert both["trainyard_served_publication_number"] == 7
        assert both['trainyard_api_processes{process="engine"}'] == 1
        assert both['trainyard_api_resident_memory_bytes{process="engine"}'] > 1e7

        folder.process_ended(engine.kill())
        after = values(folder)
        assert after["trainyard_predict_batch_images_sum"] == 4
        assert after['trainyard_predict_batch_images_bucket{le="2.0"}'] == 2
        assert after['trainyard_predict_batch_images_bucket{le="+Inf"}'] == 2
        assert after['trainyard_model_loads_total{outcome="loaded"}'] == 2
        assert after["trainyard_predict_queued_images"] == 0
        assert after["trainyard_served_publication_number"] == 0
        assert after['trainyard_api_processes{process="engine"}'] == 0
        assert after['trainyard_api_resident_memory_bytes{process="engine"}'] == 0
    finally:
        web.kill()
        engine.kill()


def test_a_process_that_ended_unnoticed_is_not_counted_as_running(folder: MetricsFolder) -> None:
    """For the moment until the one that started it looks."""
    Counting(folder, "engine", 7).kill()
    assert values(folder)['trainyard_api_processes{process="engine"}'] == 0


def test_the_folder_does_not_grow_with_the_processes_that_were_started(folder: MetricsFolder) -> None:
    sizes = []
    for _ in range(3):
        folder.process_ended(Counting(folder, "engine", 1).kill())
        sizes.append(len(list(folder.path.iterdir())))
    assert sizes[0] == sizes[2]
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder.path))
    assert registry.get_sample_value("trainyard_model_loads_total", {"outcome": "loaded"}) == 3


def test_a_process_that_never_counted_may_end(folder: MetricsFolder) -> None:
    folder.process_ended(4_000_000)


def test_a_process_that_was_killed_while_it_made_a_file_counted_nothing(folder: MetricsFolder) -> None:
    (folder.path / "counter_4000000.db").touch()
    (folder.path / "histogram_4000000.db").touch()
    folder.process_ended(4_000_000)
    assert not list(folder.path.glob("*.db"))


def test_a_folder_that_a_killed_process_left_is_removed_and_one_in_use_is_not(tmp_path: Path) -> None:
    used = MetricsFolder(tmp_path)
    left, young = tmp_path / "trainyard-metrics-left", tmp_path / "trainyard-metrics-young"
    for path in (left, young):
        path.mkdir()
        (path / "counter_1.db").touch()
    for path in (left, used.path):
        os.utime(path, (0, 0))
    mine = MetricsFolder(tmp_path)
    assert not left.exists()
    assert young.exists()  # its owner may not have locked it yet
    assert used.path.exists()
    used.close()
    mine.close()
    mine.close()
    assert [path.name for path in tmp_path.iterdir()] == [young.name]
