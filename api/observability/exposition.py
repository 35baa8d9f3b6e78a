"""The text of `GET /metrics`: what all processes of this API counted, and what the database says of the yard."""

from __future__ import annotations

import os
import resource
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from api.observability.metrics import Metrics
from api.observability.process_files import ProcessRole, list_processes, reading, shared_folder

_TRIES = 5  # a file that another process is just making is empty for a moment


class Exposition:
    """Writes the metrics in the form that the scraper asks for. Made once in a process."""

    def __init__(self, metrics: Metrics, *collectors: Collector) -> None:
        """Make it.

        Args:
            metrics: of this process.
            collectors: of what is read when it is asked for.
        """
        folder = shared_folder()
        self._registry = CollectorRegistry()
        self._registry.register(_Registered(metrics.registry) if folder is None else _Shared(folder))
        self._registry.register(_Processes())
        for collector in collectors:
            self._registry.register(collector)

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the text and its content type.

        Args:
            accept: the request's header.
        """
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


class _Registered(Collector):
    """The metrics of a process that counts alone."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        return self._registry.collect()


class _Shared(Collector):
    """The sums over the processes that share a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._files = folder, MultiProcessCollector(None, str(folder))

    def collect(self) -> Iterable[Metric]:
        with reading(self._folder):
            for tries_left in reversed(range(_TRIES)):
                try:
                    return list(self._files.collect())
                except (struct.error, FileNotFoundError):
                    if not tries_left:
                        raise
        return []


class _Processes(Collector):
    """The processes of this API, and the memory that they take."""

    def collect(self) -> Iterator[Metric]:
        counts, resident = dict.fromkeys(ProcessRole, 0), dict.fromkeys(ProcessRole, 0)
        for role, pid in list_processes():
            size_bytes = _read_resident_bytes(pid)
            if size_bytes is not None:
                counts[role] += 1
                resident[role] += size_bytes
        family = GaugeMetricFamily("trainyard_api_processes", "Processes of this API.", labels=("process",))
        memory = GaugeMetricFamily(
            "trainyard_api_resident_memory_bytes", "Memory that they take together.", labels=("process",)
        )
        for role in ProcessRole:
            family.add_metric((role.value,), counts[role])
            memory.add_metric((role.value,), resident[role])
        yield family
        yield memory


def _read_resident_bytes(pid: int) -> int | None:
    """Return the resident memory of a process. None: it has ended, or this system does not tell."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return None if pid != os.getpid() else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")
