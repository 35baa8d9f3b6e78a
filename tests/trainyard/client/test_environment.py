from __future__ import annotations

import asyncio

import pytest

from trainyard.client import AsyncClient, Client
from trainyard.client.environment import DEFAULT_URL, find_address


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRAINYARD_URL", "TRAINYARD_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_what_is_given_goes_before_what_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_address(None, None) == (DEFAULT_URL, None)
    monkeypatch.setenv("TRAINYARD_URL", "http://set:1")
    monkeypatch.setenv("TRAINYARD_KEY", "set")
    assert find_address(None, None) == ("http://set:1", "set")
    assert find_address("http://given:2", "given") == ("http://given:2", "given")
    assert find_address(None, "") == ("http://set:1", None), "an empty key is none"
    monkeypatch.setenv("TRAINYARD_URL", "")
    monkeypatch.setenv("TRAINYARD_KEY", "")
    assert find_address(None, None) == (DEFAULT_URL, None)


def test_both_clients_take_address_and_key_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_URL", "http://set:1")
    monkeypatch.setenv("TRAINYARD_KEY", "set")
    monkeypatch.setenv("TRAINYARD_PORT", "no number, but not the client's")
    with Client() as client:
        assert (str(client._http.base_url), client._http.headers["Authorization"]) == ("http://set:1", "Bearer set")
    with Client(key="") as client:
        assert "Authorization" not in client._http.headers

    async def look() -> None:
        async with AsyncClient() as client:
            assert (str(client._http.base_url), client._http.headers["Authorization"]) == ("http://set:1", "Bearer set")

    asyncio.run(look())
