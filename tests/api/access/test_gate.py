"""Who a request acts for, by its headers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from api.access.gate import Gate
from api.access.identity import ADMINISTRATOR, STRANGER, Identity, identity_of
from trainyard.access.keys import create_key, revoke_key
from trainyard.access.scopes import Scope
from trainyard.database.connection import Database
from trainyard.errors import DatabaseUnavailable, ServiceError, Unauthenticated
from trainyard.settings import Settings

KEY, METRICS = "0123456789abcdef0123", "metrics-0123456789abcdef"


def request(path: str = "/jobs", method: str = "GET", **headers: str) -> dict[str, Any]:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    return {"type": "http", "path": path, "method": method, "headers": raw}


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


class Opened:
    """A gate in an event loop of its own."""

    def __init__(self, gate: Gate, database: Database) -> None:
        self.gate = gate
        self._runner = asyncio.Runner()
        self._runner.get_loop()
        gate.open(database)

    def identify(self, path: str = "/jobs", method: str = "GET", **headers: str) -> Identity | ServiceError:
        return self._runner.run(self.gate.identify(request(path, method, **headers)))

    def sign_in(self, prefix: str = "") -> dict[str, str]:
        cookies = self._runner.run(self.gate.load_cookies())
        return {"cookie": f"{cookies.name}={cookies.begin(prefix)}"}

    def close(self) -> None:
        self._runner.run(self.gate.close())
        self._runner.close()


@contextmanager
def opened(database: Database, **settings: Any) -> Iterator[Opened]:
    gate = Opened(Gate(Settings(**settings), lambda path: path == "/healthz"), database)
    yield gate
    gate.close()


@pytest.fixture
def gate(database: Database) -> Iterator[Opened]:
    with opened(database, admin_key=SecretStr(KEY), metrics_key=SecretStr(METRICS)) as gate:
        yield gate


def add_key(database: Database, owner: str = "ada", *scopes: Scope) -> tuple[str, str, str]:
    with database.writing() as session:
        row, text = create_key(session, owner=owner, scopes=scopes or (Scope.READ,))
        return row.id, row.prefix, text


def test_without_a_key_everybody_is_the_administrator(database: Database) -> None:
    with opened(database) as gate:
        assert not gate.gate.needs_key
        assert gate.identify() == ADMINISTRATOR
        assert gate.identify(**bearer("nonsense")) == ADMINISTRATOR


def test_the_settings_key_is_an_administrator_s(gate: Opened) -> None:
    assert gate.gate.needs_key
    assert gate.identify(**bearer(KEY)) == ADMINISTRATOR
    assert gate.identify(authorization=f"bearer  {KEY} ") == ADMINISTRATOR


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", f"Basic {KEY}", KEY, f"Bearer {KEY[:-1]}", f"Bearer {KEY}x", f"Bearer {KEY} {KEY}",
     "Bearer é", f"Bearer {METRICS}", "Bearer ty_0123456789ab_" + "x" * 43],
)  # fmt: skip
def test_anything_else_is_refused(gate: Opened, authorization: str) -> None:
    assert isinstance(gate.identify(authorization=authorization), Unauthenticated)


def test_an_open_path_gives_nobody_an_owner(gate: Opened) -> None:
    assert gate.identify("/healthz") == STRANGER
    assert gate.identify("/session", "POST") == STRANGER
    assert isinstance(gate.identify("/session", "GET"), Unauthenticated)
    assert isinstance(gate.identify("/healthz/"), Unauthenticated)
    with pytest.raises(KeyError):
        identity_of(request())


def test_the_metrics_key_opens_nothing_else(gate: Opened, database: Database) -> None:
    assert gate.identify("/metrics", **bearer(METRICS)) == ADMINISTRATOR
    assert gate.identify("/metrics", **bearer(KEY)) == ADMINISTRATOR
    assert isinstance(gate.identify("/metrics"), Unauthenticated)
    assert isinstance(gate.identify("/session", **bearer(METRICS)), Unauthenticated)
    with opened(database, admin_key=SecretStr(KEY), open_metrics=True) as opened_metrics:
        assert opened_metrics.identify("/metrics") == ADMINISTRATOR
        assert isinstance(opened_metrics.identify("/jobs"), Unauthenticated)


def test_a_key_of_the_database_acts_for_its_owner(gate: Opened, database: Database) -> None:
    _, prefix, text = add_key(database, "ada", Scope.READ, Scope.PREDICT)
    found = gate.identify(**bearer(text))
    assert found == Identity("ada", frozenset({Scope.READ, Scope.PREDICT}), prefix)
    assert gate.gate.judge(request(**bearer(text))) == found, "the second time it is known"


def test_a_key_with_another_s_prefix_or_a_wrong_end_is_refused(gate: Opened, database: Database) -> None:
    _, prefix, text = add_key(database)
    _, _, other = add_key(database, "bob")
    assert isinstance(gate.identify(**bearer(text)), Identity)
    for forged in (text[:-1] + ("A" if text[-1] != "A" else "B"), prefix + other[len(prefix) :], prefix, text.upper()):
        assert isinstance(gate.identify(**bearer(forged)), Unauthenticated), "also while the key itself is known"


def test_a_session_is_its_key_s_and_ends_with_it(gate: Opened, database: Database) -> None:
    key_id, prefix, _ = add_key(database, "ada", Scope.TRAIN)
    cookie = gate.sign_in(prefix)
    found = gate.identify(**cookie)
    assert isinstance(found, Identity)
    assert (found.owner, found.scopes, found.key_prefix) == ("ada", frozenset({Scope.TRAIN}), prefix)
    assert found.expires_at is not None
    with database.writing() as session:
        revoke_key(session, key_id)
    gate.gate.keyring.forget(prefix)
    assert isinstance(gate.identify(**cookie), Unauthenticated)


def test_a_session_of_the_settings_key_ends_when_that_is_changed(gate: Opened, database: Database) -> None:
    cookie = gate.sign_in()
    found = gate.identify(**cookie)
    assert isinstance(found, Identity)
    assert (found.owner, found.key_prefix) == ("local", None)
    with opened(database, admin_key=SecretStr(KEY[::-1])) as changed:
        assert isinstance(changed.identify(**cookie), Unauthenticated)


def test_a_wrong_key_is_refused_even_with_a_session(gate: Opened) -> None:
    assert isinstance(gate.identify(**(gate.sign_in() | bearer("nonsense"))), Unauthenticated)


def test_no_comparison_ends_early(gate: Opened, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key is compared by a function whose time does not depend on where two differ; digests, never the texts."""
    compared: list[str] = []

    def compare(one: str, other: str) -> bool:
        compared.extend((one, other))
        return one == other

    monkeypatch.setattr("api.access.gate.is_same", compare)
    _, _, text = add_key(database)
    gate.identify(**bearer(text))
    gate.identify("/metrics", **bearer(METRICS))
    assert len(compared) >= 6, "the settings' key, the stored one, and both keys of the metrics"
    assert all(len(digest) == 64 for digest in compared)


def test_an_outage_refuses_what_is_not_known_with_503(gate: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise DatabaseUnavailable

    monkeypatch.setattr("api.access.keyring.keys.find_keys", fail)
    refused = gate.identify(**bearer("ty_0123456789ab_" + "x" * 43))
    assert isinstance(refused, DatabaseUnavailable)
    assert gate.identify(**bearer(KEY)) == ADMINISTRATOR, "the settings' key needs no database"
    assert threading.active_count() < 50
