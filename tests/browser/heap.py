"""How much memory a page holds once its garbage is collected, by the protocol of Chromium's own tools."""

from __future__ import annotations

from dataclasses import dataclass

from playwright.sync_api import Page


@dataclass(frozen=True)
class Held:
    """What a page holds at a moment."""

    heap_bytes: int
    nodes: int  #: of all its documents, also those that only a script still refers to
    listeners: int

    def __sub__(self, other: Held) -> Held:
        return Held(self.heap_bytes - other.heap_bytes, self.nodes - other.nodes, self.listeners - other.listeners)


class Heap:
    """Reads what a page holds."""

    def __init__(self, page: Page) -> None:
        self._session = page.context.new_cdp_session(page)
        self._session.send("Performance.enable")
        self._session.send("HeapProfiler.enable")

    def read(self) -> Held:
        """Collect the garbage, and count what is left."""
        for _ in range(3):  # what a finaliser lets go is collected by the next turn
            self._session.send("HeapProfiler.collectGarbage")
        metrics = {entry["name"]: entry["value"] for entry in self._session.send("Performance.getMetrics")["metrics"]}
        return Held(int(metrics["JSHeapUsedSize"]), int(metrics["Nodes"]), int(metrics["JSEventListeners"]))
