# Written by `make client` from the module of this name in `trainyard.client.asynchronous`; not to be edited.
"""The client's methods for API keys, which need a key with the scope `admin`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trainyard.client.models import Key, NewKey
from trainyard.client.synchronous.connection import Connection, without_none


class KeyMethods(Connection):
    """A part of `AsyncClient`."""

    def create_key(
        self, *, owner: str | None = None, name: str | None = None, scopes: Sequence[str] | None = None
    ) -> NewKey:
        """Make a key. Its text is in the answer's `key`, and can't be read again.

        Args:
            owner: who it acts for; None: your own owner.
            name: what it is for, such as `laptop of Ada`.
            scopes: what it may do: some of `read`, `train`, `predict`, `admin`; None: all but `admin`.
        """
        given = {"owner": owner, "name": name, "scopes": None if scopes is None else list(scopes)}
        return self._read(NewKey, "POST", "/keys", json=without_none(given))

    def iter_keys(self) -> Iterator[Key]:
        """Yield the keys of all owners, newest first, page by page; without their texts."""
        return self._iterate(Key, "/keys")

    def revoke_key(self, key_id: str) -> None:
        """Revoke a key: within a second every process of the yard refuses it."""
        self._send("DELETE", f"/keys/{key_id}")
