"""What the API still does when more is asked of it than it can do: goodput, refusals, and its answers to `/healthz`.

    .venv/bin/python -m bench.overload [--seconds 8] [--factors 1.5 3 5] [--clients 64]

Starts a yard that has trained `quick` on digits, and asks its API from processes of their own: first closed-loop (each
client sends as soon as it has its answer; that is the capacity), then open-loop (requests are sent when they are due,
answered or not) at multiples of it. Another process asks `/healthz` ten times a second meanwhile. A row a load: how
many requests a second were answered 200, their share of it, how many were refused; milliseconds of both and of
`/healthz` (99th percentile; the longest in brackets); what got no answer, or waited for a connection in vain; and the
share of a core that the load generator took, which the API did not have where cores are few. The baseline is the
capacity of the same run.
"""

from __future__ import annotations

import argparse
import io
import json
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field

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
    parser.add_argument("--factors", type=float, nargs="+", default=[1.5, 3, 5], help="of the capacity, to offer")
    parser.add_argument("--clients", type=int, default=64, help="of the closed loop (default 64)")
    parser.add_argument("--as-client", nargs=3, help=argparse.SUPPRESS, metavar=("PORT", "WHAT", "VALUE"))
    given = parser.parse_args()
    if given.as_client:
        port, what, value = given.as_client
        _be_client(int(port), what, float(value), given.seconds)
        return
    with predicting_api() as (_, port):
        _ask_apart(port, 3, "closed", given.clients)  # warm
        loads = [_ask_apart(port, given.seconds, "closed", given.clients)]
        capacity = loads[0][0].good / given.seconds
        _print_row(f"closed, {given.clients} clients", *loads[0], given.seconds, capacity)
        for factor in given.factors:
            loads.append(_ask_apart(port, given.seconds, "open", factor * capacity))
            _print_row(f"{factor:g}x: {factor * capacity:.0f}/s", *loads[-1], given.seconds, capacity)


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


def _print_row(name: str, load: Tally, probes: Tally, seconds: float, capacity: float) -> None:
    share = load.good / seconds / capacity
    print(
        f"{name:22} good {load.good / seconds:6.0f}/s ({share:4.0%})  refused {len(load.refused_ms) / seconds:6.0f}/s  "
        f"good {_quantile(load.good_ms)} ms  refusals {_quantile(load.refused_ms)} ms  "
        f"healthz {_quantile(probes.good_ms)} ms  neither {load.unanswered}  probes lost {probes.unanswered}  "
        f"generator {load.cores:.2f} cores",
        flush=True,
    )


def _quantile(values: list[float]) -> str:
    if len(values) < 2:
        return "-"
    return f"{statistics.quantiles(values, n=100, method='inclusive')[98]:.0f} ({max(values):.0f})"


if __name__ == "__main__":
    main()
