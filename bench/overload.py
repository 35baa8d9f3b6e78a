"""What the API still does when more is asked of it than it can do: goodput, refusals, and its answers to `/healthz`.

    .venv/bin/python -m bench.overload [--seconds 8] [--factors 1 2 5] [--clients 64]

Starts a yard that has trained `quick` on digits, and asks its API from processes of their own: first closed-loop (each
client sends as soon as it has its answer; that is the capacity), then open-loop (requests are sent when they are due,
answered or not) at multiples of it. Another process asks `/healthz` ten times a second meanwhile. A row a load: how
many requests a second were answered 200, their share of it, how many were refused; milliseconds of both and of
`/healthz` (99th percentile; the longest in brackets); what got no answer, or waited for a connection in vain.

Where cores are few, the load generator takes from the API what no refusal gives back. So the CPU of each side is
counted too: cores of the web processes, the engine and the generator, cores that nothing used, and good answers for
each second of the API's CPU. The baseline is the capacity of the same run, and its good answers for each second of CPU.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from bench.serving import predicting_api

PROBES_PER_S = 10
CONNECTIONS = 512  #: of the open loop; a request that is due when all wait is counted as unanswered
GIVE_UP_S = 10.0


@dataclass
class Tally:
    """What came back."""

    good: int = 0
    refused_ms: list[float] = field(default_factory=list)
    good_ms: list[float] = field(default_factory=list)
    unanswered: int = 0
    cores: float = 0.0  #: that the asking took

    def count(self, status: int | None, took_s: float) -> None:
        """Count one answer; None: there was none."""
        if status == 200:
            self.good += 1
            self.good_ms.append(1000 * took_s)
        elif status == 503:
            self.refused_ms.append(1000 * took_s)
        else:
            self.unanswered += 1


class Line:
    """A connection with one request on its way at most; opened again whenever the other side closes it."""

    def __init__(self, port: int) -> None:
        self._port, self._received = port, b""
        self.due = 0.0  #: when the request was to be sent
        self.socket: socket.socket | None = None

    def send(self, request: bytes, due: float, selector: selectors.BaseSelector) -> None:
        """Send a request that was due at a moment."""
        if self.socket is None:
            self.socket = socket.create_connection(("127.0.0.1", self._port), GIVE_UP_S)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(self.socket, selectors.EVENT_READ, self)
        self.due = due
        self.socket.sendall(request)

    def receive(self, selector: selectors.BaseSelector) -> int | None:
        """Read what has come: the answer's status, 0 as long as it is not whole, None if the connection broke."""
        assert self.socket is not None
        try:
            data = self.socket.recv(65536)
        except OSError:
            data = b""
        if not data:
            self.close(selector)
            return None
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return 0
        head = head.lower()
        if len(body) < int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            return 0
        self._received = b""
        if b"connection: close" in head:
            self.close(selector)
        return int(head[9:12])

    def close(self, selector: selectors.BaseSelector) -> None:
        """Let the connection go."""
        if self.socket is not None:
            selector.unregister(self.socket)
            self.socket.close()
            self.socket, self._received = None, b""


def ask(port: int, request: bytes, seconds: float, *, clients: int, per_s: float | None) -> Tally:
    """Ask over some connections.

    Args:
        port: of the API.
        request: the whole of it, as bytes.
        seconds: for how long requests are sent.
        clients: connections.
        per_s: requests are sent when they are due at this rate, as long as a connection is free; None: each client
            sends as soon as it has its answer.
    """
    tally, selector = Tally(), selectors.DefaultSelector()
    idle, busy = deque(Line(port) for _ in range(clients)), set[Line]()
    began, cpu_began, number = time.perf_counter(), time.process_time(), 0
    while (now := time.perf_counter()) < began + seconds or (busy and now < began + seconds + GIVE_UP_S):
        while now < began + seconds:
            due = now if per_s is None else began + number / per_s
            if due > now or (per_s is None and not idle):
                break
            number += 1
            if not idle:
                tally.unanswered += 1
                continue
            line = idle.popleft()
            try:
                line.send(request, due, selector)
                busy.add(line)
            except OSError:
                tally.unanswered += 1
                line.close(selector)
                idle.append(line)
        wait_s = 0.05 if per_s is None else max(0.0, began + number / per_s - now)
        for key, _ in selector.select(min(0.05, wait_s)):
            line = key.data
            if (status := line.receive(selector)) == 0:
                continue
            if line in busy:
                busy.remove(line)
                tally.count(status, time.perf_counter() - line.due)
                idle.append(line)
    tally.unanswered += len(busy)
    tally.cores = (time.process_time() - cpu_began) / seconds
    return tally


def probe(port: int, seconds: float) -> Tally:
    """Ask whether it lives, over a new connection each time, as a monitor does."""
    tally, end = Tally(), time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        one = ask(
            port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 0.001, clients=1, per_s=1
        )
        tally.good += one.good
        tally.good_ms += one.good_ms
        tally.unanswered += one.unanswered
        time.sleep(max(0.0, 1 / PROBES_PER_S - (time.perf_counter() - began)))
    return tally


def build_request() -> bytes:
    """A prediction of a digit."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(pixels).resize((32, 32)).save(buffer, "PNG")
    image = buffer.getvalue()
    head = (
        f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: {len(image)}\r\n\r\n"
    )
    return head.encode() + image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8, help="of each load (default 8)")
    parser.add_argument("--factors", type=float, nargs="+", default=[1, 2, 5], help="of the capacity, to offer")
    parser.add_argument("--clients", type=int, default=64, help="of the closed loop (default 64)")
    parser.add_argument("--as-client", nargs=3, help=argparse.SUPPRESS, metavar=("PORT", "WHAT", "VALUE"))
    given = parser.parse_args()
    if given.as_client:
        port, what, value = given.as_client
        _be_client(int(port), what, float(value), given.seconds)
        return
    with predicting_api() as (yard, port):
        api = Api(port, find_parts(yard.pid), given.seconds)
        api.ask(3, "closed", given.clients)  # warm
        closed = api.ask(given.seconds, "closed", given.clients)
        closed.print(f"closed, {given.clients} clients", closed)
        for factor in given.factors:
            per_s = factor * closed.good_per_s
            api.ask(given.seconds, "open", per_s).print(f"{factor:g}x: {per_s:.0f}/s", closed)


@dataclass
class Cpu:
    """Seconds of CPU, in all, that were used up to a moment."""

    parts: dict[str, float]  #: of the API, by name
    idle_s: float  #: of the machine


def read_cpu(parts: dict[str, list[int]]) -> Cpu:
    """Read what processes have used, by part of the API, and what nothing used."""
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    used = {
        part: tick_s * sum(sum(map(int, _read_stat(pid)[11:13])) for pid in pids)  # in user mode and in the kernel
        for part, pids in parts.items()
    }
    idle = Path("/proc/stat").read_text().split("\n", 1)[0].split()[4:6]  # with that in which a disk was waited for
    return Cpu(used, tick_s * sum(map(int, idle)))


def find_parts(yard: int) -> dict[str, list[int]]:
    """Return the web processes and the engine below a process."""
    parents = {
        int(stat.parent.name): int(_read_stat(stat.parent.name)[1]) for stat in Path("/proc").glob("[0-9]*/stat")
    }
    below = {yard}
    while more := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= more
    words = {pid: Path(f"/proc/{pid}/cmdline").read_text().split("\0") for pid in below}
    modules = {"web": "api.web_process", "engine": "api.engine_process"}
    return {part: [pid for pid in below if module in words[pid]] for part, module in modules.items()}


def _read_stat(pid: int | str) -> list[str]:
    """Return the fields of a process from the third on; zeros for one that has just ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return ["0"] * 50


@dataclass
class Measured:
    """What one load did."""

    load: Tally
    probes: Tally
    seconds: float
    cores: dict[str, float]  #: by part of the API
    idle_cores: float

    @property
    def good_per_s(self) -> float:
        """Good answers a second."""
        return self.load.good / self.seconds

    @property
    def good_per_cpu_s(self) -> float:
        """Good answers for a second of the API's CPU."""
        return self.good_per_s / sum(self.cores.values())

    def print(self, name: str, baseline: Measured) -> None:
        """Print a row."""
        load, probes = self.load, self.probes
        cores = "  ".join(f"{part} {cores:.2f}" for part, cores in self.cores.items())
        print(
            f"{name:20} good {self.good_per_s:5.0f}/s ({self.good_per_s / baseline.good_per_s:4.0%})  "
            f"refused {len(load.refused_ms) / self.seconds:6.0f}/s  "
            f"good {_quantile(load.good_ms)} ms  refusals {_quantile(load.refused_ms)} ms  "
            f"healthz {_quantile(probes.good_ms)} ms  neither {load.unanswered}  probes lost {probes.unanswered}  "
            f"cores: {cores}  generator {load.cores:.2f}  none {self.idle_cores:.2f}  "
            f"good/CPU s {self.good_per_cpu_s:.0f} ({self.good_per_cpu_s / baseline.good_per_cpu_s:4.0%})",
            flush=True,
        )


@dataclass
class Api:
    """What is asked."""

    port: int
    parts: dict[str, list[int]]
    seconds: float

    def ask(self, seconds: float, what: str, value: float) -> Measured:
        """Offer a load, and probe meanwhile."""
        before = read_cpu(self.parts)
        began = time.perf_counter()
        load, probes = _ask_apart(self.port, seconds, what, value)
        took_s = time.perf_counter() - began
        after = read_cpu(self.parts)
        cores = {part: (after.parts[part] - before.parts[part]) / seconds for part in self.parts}
        return Measured(load, probes, seconds, cores, (after.idle_s - before.idle_s) / took_s)


def _ask_apart(port: int, seconds: float, what: str, value: float) -> tuple[Tally, Tally]:
    """The load and the probes, from a process each."""
    command = [sys.executable, "-m", "bench.overload", "--seconds", str(seconds), "--as-client", str(port)]
    processes = [
        subprocess.Popen([*command, *how], stdout=subprocess.PIPE) for how in ((what, str(value)), ("probe", "0"))
    ]
    load, probes = (Tally(**json.loads(process.communicate()[0])) for process in processes)
    return load, probes


def _be_client(port: int, what: str, value: float, seconds: float) -> None:
    if what == "probe":
        asked = probe(port, seconds)
    elif what == "closed":
        asked = ask(port, build_request(), seconds, clients=int(value), per_s=None)
    else:
        asked = ask(port, build_request(), seconds, clients=CONNECTIONS, per_s=value)
    print(json.dumps(asked.__dict__))


def _quantile(values: list[float]) -> str:
    if len(values) < 2:
        return "-"
    return f"{statistics.quantiles(values, n=100, method='inclusive')[98]:.0f} ({max(values):.0f})"


if __name__ == "__main__":
    main()
