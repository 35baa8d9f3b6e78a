"""The processes of one API: whatever ends is started again, and no request is lost for it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from api.supervisor import open_port
from tests.api.served import png, wait_until
from tests.api.stored_networks import store_network
from tests.processes import children_of, find_child, is_alive
from trainyard.launch.queue_server import free_port
from trainyard.settings import Settings, child_environment

pytestmark = pytest.mark.slow

WEB, ENGINE = "api.web_process", "api.engine_process"


class Api:
    """An API of two web processes that serves a small network."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(data_dir=folder, port=free_port(), web_processes=2, model_wait_s=20)
        self.checkpoint = store_network(self.settings)
        self.url = f"http://127.0.0.1:{self.settings.port}"
        command = [sys.executable, "-m", "api", "--die-with-parent", str(os.getpid())]
        with (folder / "api.log").open("wb") as log:
            self.process = subprocess.Popen(
                command, env=child_environment(self.settings), stdout=log, stderr=log, start_new_session=True
            )
        wait_for(lambda: self.model_state() == "ok")

    def model_state(self) -> str | None:
        try:
            state: str = httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False).json()["model"]
        except httpx.HTTPError:
            return None
        return state

    @property
    def web(self) -> list[int]:
        return [pid for pid in children_of(self.process.pid) if WEB in _command(pid)]

    @property
    def engine(self) -> int:
        return find_child(self.process.pid, ENGINE)

    def predict(self, client: httpx.Client) -> httpx.Response:
        return client.post(f"{self.url}/predict", content=png(200, 8), headers={"Content-Type": "image/png"})


@contextmanager
def running(folder: Path) -> Iterator[Api]:
    """An API that is killed at the end of the block, if it has not ended before."""
    api = Api(folder)
    try:
        yield api
    finally:
        api.process.kill()
        api.process.wait()


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """One that the test may end."""
    with running(tmp_path) as started:
        yield started


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One for all tests that leave it as they found it: it takes many seconds to start."""
    with running(tmp_path_factory.mktemp("lasting")) as started:
        yield started


def wait_for(condition: object, timeout_s: float = 180) -> None:
    deadline = time.monotonic() + timeout_s
    assert callable(condition)
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def _command(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


class Load:
    """Clients that predict all the time, each over new connections, and count the answers by status."""

    def __init__(self, api: Api, clients: int = 3) -> None:
        self._api, self._over = api, threading.Event()
        self.statuses = Counter[object]()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        wait_for(lambda: self.statuses[200] > 20)
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        with httpx.Client(timeout=30, trust_env=False) as client:
            while not self._over.is_set():
                try:
                    self.statuses[self._api.predict(client).status_code] += 1
                except httpx.HTTPError as exc:
                    self.statuses[type(exc).__name__] += 1


def test_no_request_is_lost_when_the_engine_is_killed_again_and_again(lasting: Api) -> None:
    with Load(lasting) as load:
        for _ in range(3):
            killed = lasting.engine
            os.kill(killed, signal.SIGKILL)
            answered = load.statuses[200]
            wait_for(lambda: load.statuses[200] > answered + 50)  # noqa: B023 - awaited within the round
            assert lasting.engine != killed
    assert set(load.statuses) == {200}


def test_a_web_process_that_is_killed_is_started_again_and_the_others_answer_meanwhile(lasting: Api) -> None:
    first = lasting.web
    assert len(first) == 2
    os.kill(first[0], signal.SIGKILL)
    with httpx.Client(timeout=30, trust_env=False) as client:
        assert lasting.predict(client).status_code == 200
    wait_for(lambda: len(lasting.web) == 2 and first[0] not in lasting.web)
    assert first[1] in lasting.web


def test_all_web_processes_name_the_same_checkpoint_and_none_has_torch(lasting: Api) -> None:
    answers = Counter[str]()
    for _ in range(40):
        with httpx.Client(timeout=30, trust_env=False) as client:
            answers[lasting.predict(client).json()["model"]["checkpoint"]] += 1
    assert answers == {lasting.checkpoint: 40}
    for pid in [*lasting.web, lasting.engine]:
        assert "libtorch" not in Path(f"/proc/{pid}/maps").read_text()


def test_sigterm_ends_every_process_and_nothing_stays(api: Api) -> None:
    children = children_of(api.process.pid)
    with Load(api) as load:
        time.sleep(0.5)
    api.process.send_signal(signal.SIGTERM)
    assert api.process.wait(90) == -signal.SIGTERM
    assert not any(is_alive(pid) for pid in children)
    assert set(load.statuses) == {200}


def test_one_ctrl_c_of_a_terminal_ends_it_as_sigterm_does(api: Api) -> None:
    log = api.settings.data_dir / "api.log"
    wait_for(lambda: log.read_text().count("Application startup complete") == 2)
    with Load(api) as load:
        os.killpg(api.process.pid, signal.SIGINT)
        api.process.wait(90)
    assert api.process.returncode == -signal.SIGINT
    answered = {status for status in load.statuses if isinstance(status, int)}
    assert answered == {200}, load.statuses  # connections that came when it had begun to end are closed
    assert log.read_text().count("Application shutdown complete") == 2, "no web process was made to end at once"


def test_the_processes_end_when_the_supervisor_is_killed_and_the_port_is_free_at_once(api: Api) -> None:
    children = children_of(api.process.pid)
    api.process.kill()
    api.process.wait()
    open_port("127.0.0.1", api.settings.port).close()
    wait_for(lambda: not any(is_alive(pid) for pid in children), 60)


def test_a_port_that_is_taken_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data_dir=tmp_path, port=free_port())
    with socket.create_server(("127.0.0.1", settings.port)):
        command = [sys.executable, "-m", "api"]
        done = subprocess.run(command, env=child_environment(settings), capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert f"port {settings.port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_process_that_cannot_start_ends_all(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", port=free_port())
    (tmp_path / "data").write_text("a file where the folder should be")
    command = [sys.executable, "-m", "api"]
    done = subprocess.run(command, env=child_environment(settings), capture_output=True, text=True, timeout=120)
    assert done.returncode not in (0, -signal.SIGTERM)
    assert "data" in done.stderr


def test_metrics_count_what_all_processes_did(lasting: Api) -> None:
    with httpx.Client(timeout=30, trust_env=False) as client:

        def read() -> dict[str, str]:
            text = client.get(f"{lasting.url}/metrics").text
            return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))

        def count() -> float:
            return float(read().get('trainyard_predict_requests_total{code="ok",model="latest"}', 0))

        # one of either kind may be starting again
        wait_until(lambda: float(read()['trainyard_api_processes{process="web"}']) == 2)
        wait_until(lambda: float(read()['trainyard_api_processes{process="engine"}']) == 1)
        before = count()
        for _ in range(10):
            assert lasting.predict(client).status_code == 200
        wait_until(lambda: count() == before + 10)
