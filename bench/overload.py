"""Measures the API when it gets more requests than it can handle: goodput, refusals, and answers of `/healthz`.

    .venv/bin/python -m bench.overload [--seconds 8] [--factors 1.5 3 5] [--clients 64]

Starts a yard that has trained `quick` on digits, and asks its API from processes of their own: first closed-loop (each
client sends as soon as it has its answer; that is the capacity), then open-loop (requests are sent when they are due,
answered or not) at multiples of it. Another process asks `/healthz` ten times a second meanwhile. A row a load: how
many requests a second were answered 200, their share of it, how many were refused; milliseconds of both and of
`/healthz` (99th percentile; the longest in brackets); and what got no answer, or waited for a connection in vain. The
baseline is the capacity of the same run. The load generator needs cores of its own: on two cores all is too slow.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from bench.serving import predicting_api

PROBES_PER_S = 10
CONNECTIONS = 512  #: of the open loop; a request that is due when all wait is late, and counted as unanswered
GIVE_UP_S = 10.0


@dataclass
class Tally:
    """Counts of the answers."""

    good: int = 0
    refused_ms: list[float] = field(default_factory=list)
    good_ms: list[float] = field(default_factory=list)
    unanswered: int = 0

    def count(self, status: int | None, took_s: float) -> None:
        """Count one answer. None: there was none."""
        if status == 200:
            self.good += 1
            self.good_ms.append(1000 * took_s)
        elif status == 503:
            self.refused_ms.append(1000 * took_s)
        else:
            self.unanswered += 1


class Line:
    """A connection that is opened again whenever the other side closes it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> int | None:
        """Send a request and return the status of its answer. None: there was no answer."""
        try:
            return await asyncio.wait_for(self._ask(request), GIVE_UP_S)
        except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError):
            self.close()
            return None

    async def _ask(self, request: bytes) -> int:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        if b"connection: close" in head:
            self.close()
        return int(head[9:12])

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


async def ask_closed(port: int, request: bytes, clients: int, seconds: float) -> Tally:
    """Let each client ask again as soon as it has its answer."""
    tally, end = Tally(), time.perf_counter() + seconds

    async def client() -> None:
        line = Line(port)
        while (began := time.perf_counter()) < end:
            tally.count(await line.ask(request), time.perf_counter() - began)
        line.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return tally


async def ask_open(port: int, request: bytes, per_s: float, seconds: float) -> Tally:
    """Send requests when they are due, at a fixed rate. Waiting for a free connection counts as latency."""
    tally, free = Tally(), asyncio.Queue[Line]()
    for _ in range(CONNECTIONS):
        free.put_nowait(Line(port))
    tasks: set[asyncio.Task[None]] = set()

    async def one(line: Line, due: float) -> None:
        tally.count(await line.ask(request), time.perf_counter() - due)
        free.put_nowait(line)

    began = time.perf_counter()
    for number in range(int(per_s * seconds)):
        due = began + number / per_s
        if (wait_s := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait_s)
        elif number % 20 == 0:
            await asyncio.sleep(0)
        if free.empty():
            tally.unanswered += 1
            continue
        task = asyncio.create_task(one(free.get_nowait(), due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    return tally


async def probe(port: int, seconds: float) -> Tally:
    """Ask whether the API is alive, over a new connection each time, as monitoring does."""
    tally, end = Tally(), time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        line = Line(port)
        tally.count(await line.ask(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"), time.perf_counter() - began)
        line.close()
        await asyncio.sleep(max(0.0, 1 / PROBES_PER_S - (time.perf_counter() - began)))
    return tally


def build_request() -> bytes:
    """Build a request to predict one digit."""
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
    """Send the load and the probes, each from its own process."""
    command = [sys.executable, "-m", "bench.overload", "--seconds", str(seconds), "--as-client", str(port)]
    processes = [
        subprocess.Popen([*command, *how], stdout=subprocess.PIPE) for how in ((what, str(value)), ("probe", "0"))
    ]
    load, probes = (Tally(**json.loads(process.communicate()[0])) for process in processes)
    return load, probes


def _be_client(port: int, what: str, value: float, seconds: float) -> None:
    asked: Coroutine[Any, Any, Tally]
    if what == "probe":
        asked = probe(port, seconds)
    elif what == "closed":
        asked = ask_closed(port, build_request(), int(value), seconds)
    else:
        asked = ask_open(port, build_request(), value, seconds)
    print(json.dumps(asyncio.run(asked).__dict__))


def _print_row(name: str, load: Tally, probes: Tally, seconds: float, capacity: float) -> None:
    share = load.good / seconds / capacity
    print(
        f"{name:22} good {load.good / seconds:6.0f}/s ({share:4.0%})  refused {len(load.refused_ms) / seconds:6.0f}/s  "
        f"good {_quantile(load.good_ms)} ms  refusals {_quantile(load.refused_ms)} ms  "
        f"healthz {_quantile(probes.good_ms)} ms  neither {load.unanswered}  probes lost {probes.unanswered}",
        flush=True,
    )


def _quantile(values: list[float]) -> str:
    if len(values) < 2:
        return "-"
    return f"{statistics.quantiles(values, n=100, method='inclusive')[98]:.0f} ({max(values):.0f})"


if __name__ == "__main__":
    main()
