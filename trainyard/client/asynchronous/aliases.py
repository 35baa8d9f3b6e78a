"""The client's methods for aliases."""

from __future__ import annotations

from trainyard.client.asynchronous.connection import AsyncConnection
from trainyard.client.kinds import Json
from trainyard.client.models import Alias, AliasMove


class AsyncAliasMethods(AsyncConnection):
    """A part of `AsyncClient`."""

    async def put_alias(
        self,
        name: str,
        checkpoint: str,
        *,
        canary: str | None = None,
        share: float | None = None,
        shadow: str | None = None,
    ) -> Alias:
        """Make an alias, or move it.

        Args:
            name: lower-case letters, digits, hyphens.
            checkpoint: the one that answers: its id, or whatever else `predict` takes as its model.
            canary: a second one, which answers a share of the requests.
            share: that share, over 0 and under 1.
            shadow: one that is only compared.

        Raises:
            ApiError: it can't be moved there; nothing was changed.
        """
        body: Json = {"checkpoint": checkpoint, "shadow": shadow}
        if canary is not None:
            body["canary"] = {"checkpoint": canary, "share": share}
        return await self._read(Alias, "PUT", f"/aliases/{name}", json=body)

    async def get_alias(self, name: str) -> Alias:
        """Return what an alias names, and what each of its sides did since its last move."""
        return await self._read(Alias, "GET", f"/aliases/{name}")

    async def list_aliases(self) -> list[Alias]:
        """Return your first hundred aliases, which are all."""
        return await self._first_page(Alias, "/aliases")

    async def list_alias_moves(self, name: str) -> list[AliasMove]:
        """Return the newest hundred moves of an alias."""
        return await self._first_page(AliasMove, f"/aliases/{name}/history")

    async def roll_back_alias(self, name: str, *, version: int | None = None) -> Alias:
        """Undo the last change of an alias, or go back to the checkpoint of one of its moves, and return it."""
        return await self._read(Alias, "POST", f"/aliases/{name}/rollback", json={"version": version})

    async def delete_alias(self, name: str) -> None:
        """Remove an alias."""
        await self._send("DELETE", f"/aliases/{name}")
