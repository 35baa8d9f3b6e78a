"""Load by `wrk`: the same request from several connections, each as soon as it has its answer."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.serving_peers.messages import Message

PATIENCE_S = 60  #: before a request without an answer counts as an error
_MARK = "measured:"
_SCRIPT = """
wrk.method = "POST"
local file = assert(io.open({body}, "rb"))
wrk.body = file:read("*a")
file:close()
{headers}

function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '{mark}{{"seconds":%.6f,"answers":%d,"refused":%d,"lost":%d,"late":%d,"p50_ms":%.3f,"p99_ms":%.3f}}\\n',
      summary.duration / 1e6, summary.requests, errors.status, errors.connect + errors.read + errors.write,
      errors.timeout, latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
"""


@dataclass(frozen=True)
class Measurement:
    """What a server did under one load."""

    requests_per_s: float  #: answered with success
    p50_ms: float
    p99_ms: float
    errors: int  #: refused, lost or late
    cpu_ms: float = 0.0  #: time on the cores for each answer, of all processes of the server


def write_script(message: Message, folder: Path) -> Path:
    """Write a script for wrk that sends a request again and again."""
    body, script = folder / "body", folder / "load.lua"
    body.write_bytes(message.body)
    headers = "\n".join(f"wrk.headers[{_quote(name)}] = {_quote(value)}" for name, value in message.headers.items())
    script.write_text(_SCRIPT.format(body=_quote(str(body)), headers=headers, mark=_MARK))
    return script


def measure(port: int, path: str, script: Path, *, clients: int, seconds: int) -> Measurement:
    """Load a server on this machine.

    Raises:
        RuntimeError: wrk failed, or its output is not as expected.
    """
    limits = ["-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", f"{PATIENCE_S}s"]
    done = subprocess.run(
        ["wrk", *limits, "-s", str(script), f"http://127.0.0.1:{port}{path}"],
        capture_output=True,
        text=True,
        timeout=seconds + 2 * PATIENCE_S,
    )
    if done.returncode:
        raise RuntimeError(f"wrk ended with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return read_output(done.stdout)


def read_output(output: str) -> Measurement:
    """Read what the script made wrk print.

    Raises:
        RuntimeError: the line is missing.
    """
    line = next((line for line in output.splitlines() if line.startswith(_MARK)), None)
    if line is None:
        raise RuntimeError(f"wrk printed no line that begins with {_MARK!r}: {output.strip()!r}")
    found = json.loads(line.removeprefix(_MARK))
    return Measurement(
        requests_per_s=(found["answers"] - found["refused"]) / found["seconds"],
        p50_ms=found["p50_ms"],
        p99_ms=found["p99_ms"],
        errors=found["refused"] + found["lost"] + found["late"],
    )


def _quote(text: str) -> str:
    return json.dumps(text)  # Lua reads the same escapes
