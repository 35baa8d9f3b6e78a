"""A yard that asks for keys, and clients with keys of its database."""

from __future__ import annotations

from typing import Any

import httpx
from pydantic import SecretStr

from tests.api.served import Served
from trainyard.access.keys import create_key
from trainyard.access.scopes import Scope

ADMIN_KEY = "admin-0123456789abcdef"
WITH_KEYS: dict[str, Any] = {"admin_key": SecretStr(ADMIN_KEY), "metrics_key": SecretStr("metrics-0123456789abcdef")}
ALL_BUT_ADMIN = (Scope.READ, Scope.TRAIN, Scope.PREDICT)


def add_key(served: Served, owner: str, *scopes: Scope) -> tuple[str, str]:
    """Id and text of a new key."""
    with served.database.writing() as session:
        row, text = create_key(session, owner=owner, scopes=scopes or ALL_BUT_ADMIN)
        return row.id, text


def client_of(served: Served, key: str | None) -> httpx.Client:
    """A client that sends a key. None: it sends none."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return httpx.Client(base_url=served.url, headers=headers, timeout=20, trust_env=False)


def client_for(served: Served, owner: str, *scopes: Scope) -> httpx.Client:
    """A client with a new key."""
    return client_of(served, add_key(served, owner, *scopes)[1])


def as_administrator(served: Served) -> Served:
    """Let the yard's own client send the settings' key."""
    served.http.headers["Authorization"] = f"Bearer {ADMIN_KEY}"
    return served
