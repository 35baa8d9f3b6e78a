"""The client's methods for API keys, which need a key with the scope `admin`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from trainyard.client.asynchronous.connection import AsyncConnection, without_none
from trainyard.client.models import Key, NewKey


class AsyncKeyMethods(AsyncConnection):
    """A part of `AsyncClient`."""

    async def create_key(
        self, *, owner: str | None = None, name: str | None = None, scopes: Sequence[str] | None = None
    ) -> NewKey:
        """Make a key. Its text is in the answer's `key`, and can't be read again.

        Args:
            owner: who it acts for; None: your own owner.
            name: what it is for, such as `laptop of Ada`.
            scopes: what it may do: some of `read`, `train`, `predict`, `admin`; None: all but `admin`.
        """
        given = {"owner": owner, "name": name, "scopes": None if scopes is None else list(scopes)}
        return await self._read(NewKey, "POST", "/keys", json=without_none(given))

    def iter_keys(self) -> AsyncIterator[Key]:
        """Yield the keys of all owners, newest first, page by page; without their texts."""
        return self._iterate(Key, "/keys")

    async def revoke_key(self, key_id: str) -> None:
        """Revoke a key: within a second every process of the yard refuses it."""
        await self._send("DELETE", f"/keys/{key_id}")
