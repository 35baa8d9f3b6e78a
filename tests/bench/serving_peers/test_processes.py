"""Trees of processes: their memory, and their end."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.serving_peers.messages import Message
from bench.serving_peers.processes import NoAnswer, ServerProcess, sum_memory, sum_ticks
from trainyard.launch.queue_server import free_port

LIBRARY = "7f00-7f10 r-xp 00000000 fe:00 77 /lib/libtorch.so"
HEAP = "5500-5510 rw-p 00000000 00:00 0 [heap]"
SHARED = "7e00-7e10 rw-s 00000000 00:01 9 /dev/shm/plasma"


def mapping(head: str, *, rss: int, pss: int, anonymous: int = 0) -> str:
    return f"{head}\nSize: 64 kB\nRss: {rss} kB\nPss: {pss} kB\nAnonymous: {anonymous} kB\nVmFlags: rd ex\n"


def test_a_library_counts_once_and_whole_though_another_server_shares_it() -> None:
    first = mapping(LIBRARY, rss=300, pss=50) + mapping(HEAP, rss=100, pss=100, anonymous=100)
    second = mapping(LIBRARY, rss=200, pss=40) + mapping(HEAP, rss=10, pss=10, anonymous=10)
    assert sum_memory([first, second]) == 1024 * (300 + 100 + 10)


def test_changed_pages_of_a_library_are_of_each_process_and_shared_memory_is_divided() -> None:
    one = mapping(LIBRARY, rss=300, pss=60, anonymous=20) + mapping(SHARED, rss=80, pss=40)
    assert sum_memory([one, one]) == 1024 * (280 + 2 * 20 + 2 * 40)


TREE = """
import http.server, os, subprocess, sys
code = "import os, time; os.setsid(); open(os.environ['OUT'], 'a').write(f'{os.getpid()}\\\\n'); time.sleep(600)"
if os.fork() == 0:  # leaves the tree: its parent ends, and it has a session of its own
    subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    os._exit(0)
subprocess.Popen([sys.executable, "-c", code], env={"OUT": os.environ["OUT"]})  # has another environment

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(200 if self.path == "/ok" else 500)
        self.end_headers()
        self.wfile.write(b"body")

http.server.HTTPServer(("127.0.0.1", int(os.environ["PEER"])), Handler).serve_forever()
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    port = free_port()
    environment = {**os.environ, "PEER": str(port), "OUT": str(tmp_path / "pids")}
    process = ServerProcess([sys.executable, "-c", TREE], environment, tmp_path, port)
    yield process
    process.end()


def wait_until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"


def test_the_whole_tree_is_frozen_thawed_and_ended_with_what_has_left_it(server: ServerProcess, tmp_path: Path) -> None:
    assert server.wait_until_answering("/ok", Message({}, b"x"), 10) == b"body"
    pids = tmp_path / "pids"
    wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    others = set(map(int, pids.read_text().split()))
    assert others < server.find_pids()
    assert server.memory_bytes() > 10_000_000
    server.freeze()
    wait_until(lambda: {state_of(pid) for pid in server.find_pids()} <= {"T", "Z"})
    assert {state_of(pid) for pid in others} == {"T"}
    server.thaw()
    assert server.ask("/ok", Message({}, b"x")) == b"body"
    server.end()
    wait_until(lambda: not server.find_pids())  # the kernel may still be taking the last one away
    wait_until(lambda: {state_of(pid) for pid in others} <= {"gone", "Z"})


def test_an_answer_that_is_no_success_is_told_with_its_status(server: ServerProcess) -> None:
    server.wait_until_answering("/ok", Message({}, b"x"), 10)
    with pytest.raises(NoAnswer, match="status 500: body"):
        server.ask("/other", Message({}, b"x"))


def test_a_server_that_ends_at_once_is_told_with_its_log(tmp_path: Path) -> None:
    process = ServerProcess([sys.executable, "-c", "raise SystemExit('no such option')"], os.environ, tmp_path, 1)
    with pytest.raises(NoAnswer, match="status 1: no such option"):
        process.wait_until_answering("/", Message({}, b""), 10)
    process.end()


def test_the_time_on_the_cores_is_that_of_a_process_and_of_its_ended_children() -> None:
    assert sum_ticks("12 (a b) c) S 1 12 12 0 -1 4194560 9 8 7 6 100 20 3 4 20 0 1 0 5555 1000 200") == 127


def test_a_server_that_answers_has_been_on_a_core(server: ServerProcess) -> None:
    server.wait_until_answering("/ok", Message({}, b"x"), 10)
    assert 0.01 < server.cpu_s() < 60
