"""The client goes on with a download behind a proxy that cuts connections."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

import pytest

from tests.api.served import Served
from trainyard.client import Client
from trainyard.client.synchronous import downloading


class CuttingProxy:
    """Hands connections over to a port. Those of `cuts` end after so many bytes of the server's."""

    def __init__(self, port: int, cuts: list[int]) -> None:
        self._port, self._cuts = port, cuts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.requests: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._port)) as server:
            head = client.recv(65536)
            self.requests.append(head)
            server.sendall(head)
            left = self._cuts.pop(0) if self._cuts else 1 << 60
            while left > 0 and (piece := server.recv(min(left, 65536))):
                client.sendall(piece)
                left -= len(piece)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading, "FIRST_WAIT_S", 0.01)


@pytest.fixture
def checkpoint_id(served: Served) -> str:
    return served.add_checkpoint(served.add_job(), 1).id


def test_a_download_goes_on_after_every_cut(served: Served, checkpoint_id: str, tmp_path: Path) -> None:
    whole = served.http.get(f"/checkpoints/{checkpoint_id}/download").content
    assert len(whole) > 6000
    proxy = CuttingProxy(served.port, [3000, 2500, 2000])
    told: list[tuple[int, int]] = []
    with contextlib.closing(proxy), Client(f"http://127.0.0.1:{proxy.port}", retries=0) as client:
        client.download_to(checkpoint_id, tmp_path / "it.tar", on_received=lambda *counts: told.append(counts))
    assert (tmp_path / "it.tar").read_bytes() == whole
    assert {total for _, total in told} == {len(whole)}
    assert [got for got, _ in told] == sorted(got for got, _ in told), "no byte came twice"
    assert [b"range: bytes=" in request.lower() for request in proxy.requests] == [False, True, True, True]
    assert list(tmp_path.glob(".*.part")) == []
