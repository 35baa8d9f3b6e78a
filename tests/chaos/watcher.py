"""A client that follows the whole yard through all faults, and must miss nothing and see nothing twice."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field

import httpx

from trainyard.database.event_tables import YardEvent
from trainyard.states import YardEventKind

SILENT_S = 15.0  # three ticks


@dataclass
class Watcher:
    """Follows `/events` in a thread, and connects again with the last number whenever the stream is cut."""

    url: str
    numbers: list[int] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)  #: of each job, as last told
    gone: set[str] = field(default_factory=set)
    begin: int | None = None  #: the number after which it knows everything
    last: int | None = None
    cuts: int = 0
    resets: int = 0

    def __post_init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self, within_s: float, newest: int) -> None:
        """Wait until it knows the newest number, and end it."""
        deadline = time.monotonic() + within_s
        while (self.last or 0) < newest and time.monotonic() < deadline:
            time.sleep(0.2)
        self._ended.set()

    def judge(self, entries: list[YardEvent], ends: dict[str, str]) -> list[str]:
        """Compare with the log, and with the states in which the jobs are.

        An entry whose thing was deleted, or whose checkpoint was given up, before it was sent may be missing.
        """
        if self.begin is None:
            return ["the watcher was never told anything"]
        complaints = []
        if self.numbers != sorted(set(self.numbers)):
            complaints.append("events of the yard came twice, or in another order than their numbers")
        seen, told = set(self.numbers), [it for it in entries if it.number > self.begin]
        if foreign := seen - {it.number for it in told}:
            complaints.append(f"{len(foreign)} events were sent that the log does not have")
        for it in told:
            if it.kind is YardEventKind.JOB and it.subject_id in ends and it.number not in seen:
                complaints.append(f"event {it.number} of {it.subject_id} was missed")
        for job_id, state in ends.items():
            if self.states.get(job_id, state) != state:
                complaints.append(f"{job_id} is {state}, but was last told to be {self.states[job_id]}")
        return complaints

    def _run(self) -> None:
        while not self._ended.is_set():
            with suppress(httpx.HTTPError, json.JSONDecodeError):
                self._follow()
            self.cuts += 1
            self._ended.wait(0.2)

    def _follow(self) -> None:
        headers = {} if self.last is None else {"Last-Event-ID": str(self.last)}
        with httpx.stream("GET", f"{self.url}/events", headers=headers, timeout=SILENT_S, trust_env=False) as answer:
            frame: dict[str, str] = {}
            for line in answer.iter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    frame[name] = value
                    continue
                if answer.is_success and "data" in frame:
                    self._take(frame)
                frame = {}
                if self._ended.is_set():
                    return

    def _take(self, frame: dict[str, str]) -> None:
        kind, data = frame["event"], json.loads(frame["data"])
        if kind == "job":
            self.states[data["id"]] = data["state"]
        if "id" not in frame:
            return
        self.last = int(frame["id"])
        self.begin = self.last if self.begin is None else self.begin
        if kind == "reset":
            self.resets += 1
        elif kind != "tick":
            self.numbers.append(self.last)
