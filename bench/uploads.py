"""Uploads over loopback: megabytes a second, and what they cost the API, beside plain Starlette form parsing.

    .venv/bin/python -m bench.uploads [--megabytes 2000] [--rounds 3]

Starts the API, and a Starlette app that parses the same form (`bench.peers.starlette_form`), each as a process of its
own. This process sends the same megabyte again and again over one socket. A row a way: by tus in one request and in
requests of 16 MB; as the raw body and as `file` of a form to `POST /datasets`; and the form to Starlette. The API syncs
what it takes and computes its sha256; Starlette does neither, so its bytes may still be in memory when it answers. The
ways take turns, and the medians of all rounds are printed: MB/s from the first byte sent to the answer, and the
server's CPU seconds for each GB; then the most by which the server's resident memory grew.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.serving import serving_api, wait_until_ready
from trainyard.launch.queue_server import free_port

MB = 1_000_000
TICKS = os.sysconf("SC_CLK_TCK")
PIECE = os.urandom(MB)
TUS = "Tus-Resumable: 1.0.0\r\n"
BYTES_OF_UPLOAD = f"{TUS}Content-Type: application/offset+octet-stream\r\n"
FORM_HEAD = b'--XX\r\nContent-Disposition: form-data; name="file"; filename="a.zip"\r\n\r\n'
FORM_END = b"\r\n--XX--\r\n"


@dataclass(frozen=True)
class Measured:
    """One upload."""

    mb_per_s: float
    cpu_s_per_gb: float
    grown_mb: float


class Line:
    """One connection to a server."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=600)

    def ask(self, method: str, path: str, headers: str, parts: list[bytes | int]) -> tuple[int, str]:
        """Send a request, whose body is bytes and numbers of bytes, and return status and headers of the answer."""
        size = sum(part if isinstance(part, int) else len(part) for part in parts)
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n{headers}\r\n"
        self._socket.sendall(head.encode())
        for part in parts:
            if isinstance(part, bytes):
                self._socket.sendall(part)
                continue
            for start in range(0, part, MB):
                self._socket.sendall(PIECE[: min(MB, part - start)])
        return self._read()

    def _read(self) -> tuple[int, str]:
        received = b""
        while b"\r\n\r\n" not in received:
            data = self._socket.recv(65536)
            assert data, "the server closed the connection"
            received += data
        head, _, body = received.partition(b"\r\n\r\n")
        text = head.decode()
        announced = re.search(r"(?i)content-length: (\d+)", text)
        missing = int(announced[1]) - len(body) if announced else 0
        while missing > 0:
            missing -= len(self._socket.recv(65536))
        return int(text[9:12]), text

    def close(self) -> None:
        """Close it."""
        self._socket.close()


def by_tus(step_mb: int) -> Callable[[Line, int], None]:
    """Return a way that sends an upload in requests of so many megabytes."""

    def send(line: Line, megabytes: int) -> None:
        status, head = line.ask("POST", "/uploads", f"{TUS}Upload-Length: {megabytes * MB}\r\n", [])
        assert status == 201, head
        found = re.search(r"(?i)location: (\S+)", head)
        assert found is not None
        for start in range(0, megabytes, step_mb):
            size = min(step_mb, megabytes - start) * MB
            headers = f"{BYTES_OF_UPLOAD}Upload-Offset: {start * MB}\r\n"
            status, head = line.ask("PATCH", found[1], headers, [size])
            assert status == 204, head
        status, head = line.ask("DELETE", found[1], TUS, [])
        assert status == 204, head

    return send


def as_body(line: Line, megabytes: int) -> None:
    """Send a file as the raw body."""
    status, head = line.ask("POST", "/datasets?name=bench", "Content-Type: application/zip\r\n", [megabytes * MB])
    assert status == 202, head


def as_form(line: Line, megabytes: int) -> None:
    """Send a file as the field of a form."""
    headers = "Content-Type: multipart/form-data; boundary=XX\r\n"
    status, head = line.ask("POST", "/datasets?name=bench", headers, [FORM_HEAD, megabytes * MB, FORM_END])
    assert status == 202, head


@contextmanager
def serving_starlette() -> Iterator[tuple[int, int]]:
    """Start the peer and yield its process's id and port; it ends with the block."""
    port = free_port()
    peer = subprocess.Popen([sys.executable, "-m", "bench.peers.starlette_form", str(port)])
    try:
        wait_until_ready(port)
        yield peer.pid, port
    finally:
        peer.terminate()
        peer.wait(30)


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process until now, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mb(pid: int, name: str) -> float:
    """Return `VmRSS` (now) or `VmHWM` (the highest) of a process."""
    [kilobytes] = re.findall(rf"{name}:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return 1024 * int(kilobytes) / MB


def measure(pid: int, port: int, way: Callable[[Line, int], None], megabytes: int) -> Measured:
    """Upload once."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    before, cpu_before = resident_mb(pid, "VmRSS"), cpu_seconds(pid)
    line, began = Line(port), time.perf_counter()
    way(line, megabytes)
    took_s = time.perf_counter() - began
    line.close()
    cpu_s = cpu_seconds(pid) - cpu_before
    return Measured(megabytes / took_s, 1000 * cpu_s / megabytes, resident_mb(pid, "VmHWM") - before)


def main() -> None:
    """Measure all ways in turn and print their medians."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; {given.megabytes} MB, {given.rounds} rounds")
    with serving_api() as (api, port, _), serving_starlette() as (peer_pid, peer_port):
        ways = {
            "tus, one request": (api.pid, port, by_tus(given.megabytes)),
            "tus, requests of 16 MB": (api.pid, port, by_tus(16)),
            "POST /datasets, raw body": (api.pid, port, as_body),
            "POST /datasets, form": (api.pid, port, as_form),
            "Starlette's request.form()": (peer_pid, peer_port, as_form),
        }
        found: dict[str, list[Measured]] = {name: [] for name in ways}
        for _ in range(given.rounds):
            for name, (pid, at, way) in ways.items():
                found[name].append(measure(pid, at, way, given.megabytes))
    print(f"{'way':28} {'MB/s':>7} {'CPU s/GB':>9} {'memory MB':>10}")
    for name, rounds in found.items():
        speed = statistics.median(one.mb_per_s for one in rounds)
        cpu = statistics.median(one.cpu_s_per_gb for one in rounds)
        print(f"{name:28} {speed:7.0f} {cpu:9.2f} {max(one.grown_mb for one in rounds):10.1f}")
    print(f"load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
