# Written by `make client` from the module of this name in `trainyard.client.asynchronous`; not to be edited.
"""The client's methods that look at a yard: its workers, its queue, its recipes."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from trainyard.client.kinds import Json
from trainyard.client.models import Preview, QueuedJob, Recipe, Worker, Yard
from trainyard.client.synchronous.connection import Connection


class YardMethods(Connection):
    """A part of `AsyncClient`."""

    def get_yard(self) -> Yard:
        """Return the yard's version, limits and features, and whether it asks for a key. It needs none itself."""
        return self._read(Yard, "GET", "/yard")

    def list_workers(self, *, state: str | Sequence[str] | None = None) -> list[Worker]:
        """Return the newest hundred workers, in a state or in one of several.

        Without a state these are all but those that are gone for over an hour.
        """
        return self._first_page(Worker, "/workers", {"state": state})

    def list_queue(self) -> list[QueuedJob]:
        """Return your first hundred queued jobs, the next to start first, each with what it waits for."""
        return self._first_page(QueuedJob, "/queue")

    def list_recipes(self) -> list[Recipe]:
        """Return all recipes."""
        return [Recipe.read(entry) for entry in (self._request("GET", "/recipes"))["data"]]

    def get_recipe(self, name: str) -> Recipe:
        """Return a recipe with the schema of its training options."""
        return self._read(Recipe, "GET", f"/recipes/{quote(name, safe='')}")

    def preview_job(self, dataset: str, *, recipe: str | None = None, overrides: Json | None = None) -> Preview:
        """Return what a job would be: its network, its steps, its memory, about how long it takes. Nothing is begun."""
        body = {"dataset": dataset, "overrides": overrides or {}} | ({} if recipe is None else {"recipe": recipe})
        return self._read(Preview, "POST", "/recipes/preview", json=body, may_repeat=True)
