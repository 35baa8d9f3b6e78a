"""Each limit is tried in a process of its own, as none can be taken back."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
from pathlib import Path

import pytest

BEGIN = (
    "from alexnet_core.data.intake.confinement import confine; confine(memory_bytes=2**28, cpu_s=1, file_bytes=2**20)\n"
)


def run(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BEGIN + code, *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_memory_beyond_the_limit_is_refused() -> None:
    assert run("bytearray(2**27)").returncode == 0
    assert "MemoryError" in run("bytearray(2**29)").stderr


def test_a_file_may_be_mapped_beside_the_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(2**20))
    code = "import mmap, sys; file = open(sys.argv[1], 'rb'); held = bytearray(2**27);"
    code += "mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)"
    assert run(code, str(tmp_path / "file")).returncode == 0


def test_cpu_time_ends_the_process() -> None:
    assert run("while True: pass").returncode == -24  # SIGXCPU


def test_a_file_grows_no_further(tmp_path: Path) -> None:
    code = "import sys\ntry: open(sys.argv[1], 'wb').write(bytes(2**21))\nexcept OSError as e: print(e.errno)"
    assert run(code, str(tmp_path / "file")).stdout.strip() == str(errno.EFBIG)
    assert (tmp_path / "file").stat().st_size <= 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")
def test_nothing_can_be_reached_over_a_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        code = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), timeout=5)"
        done = run(code, port)
    leaves = "import ctypes; c = ctypes.CDLL(None); print(c.unshare(0x40000000) and c.unshare(0x50000000))"
    if subprocess.check_output([sys.executable, "-c", leaves], text=True).strip() != "0":
        pytest.skip("this system lets no user leave the network")
    assert done.returncode != 0
    assert "unreachable" in done.stderr


def test_a_limit_that_is_lower_already_stays() -> None:
    code = "import resource; confine(memory_bytes=2**40, cpu_s=10**6, file_bytes=2**40); "
    code += "print([resource.getrlimit(k)[0] for k in (resource.RLIMIT_DATA, resource.RLIMIT_FSIZE)])"
    assert run(code).stdout.strip() == f"[{2**28}, {2**20}]"
