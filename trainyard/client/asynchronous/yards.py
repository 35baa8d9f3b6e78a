"""The client's methods that look at a yard: its workers, its queue, its recipes."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from trainyard.client.asynchronous.connection import AsyncConnection
from trainyard.client.kinds import Json
from trainyard.client.models import Preview, QueuedJob, Recipe, Worker, Yard


class AsyncYardMethods(AsyncConnection):
    """A part of `AsyncClient`."""

    async def get_yard(self) -> Yard:
        """Return the yard's version, limits and features, and whether it asks for a key. It needs none itself."""
        return await self._read(Yard, "GET", "/yard")

    async def list_workers(self, *, state: str | Sequence[str] | None = None) -> list[Worker]:
        """Return the newest hundred workers, in a state or in one of several.

        Without a state these are all but those that are gone for over an hour.
        """
        return await self._first_page(Worker, "/workers", {"state": state})

    async def list_queue(self) -> list[QueuedJob]:
        """Return your first hundred queued jobs, the next to start first, each with what it waits for."""
        return await self._first_page(QueuedJob, "/queue")

    async def list_recipes(self) -> list[Recipe]:
        """Return all recipes."""
        return [Recipe.read(entry) for entry in (await self._request("GET", "/recipes"))["data"]]

    async def get_recipe(self, name: str) -> Recipe:
        """Return a recipe with the schema of its training options."""
        return await self._read(Recipe, "GET", f"/recipes/{quote(name, safe='')}")

    async def preview_job(self, dataset: str, *, recipe: str | None = None, overrides: Json | None = None) -> Preview:
        """Return what a job would be: its network, its steps, its memory, about how long it takes. Nothing is begun."""
        body = {"dataset": dataset, "overrides": overrides or {}} | ({} if recipe is None else {"recipe": recipe})
        return await self._read(Preview, "POST", "/recipes/preview", json=body, may_repeat=True)
