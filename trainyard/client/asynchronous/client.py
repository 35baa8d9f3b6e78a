"""The client whose calls are awaited.

async with AsyncClient("http://127.0.0.1:8000") as client:
    job = await client.train("./pictures", recipe="quick")
    await job.wait(progress=True)
    answer = await job.predict("seven.png")
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainyard.client.asynchronous.connection import without_none
from trainyard.client.asynchronous.requests import AsyncRequests
from trainyard.client.asynchronous.training_job import AsyncTrainingJob
from trainyard.client.kinds import Json


class AsyncClient(AsyncRequests):
    """One connection to a yard. Not safe to share between threads."""

    async def train(
        self,
        source: str | Path,
        *,
        recipe: str | None = None,
        overrides: Json | None = None,
        name: str | None = None,
        progress: bool = False,
        dataset_options: Json | None = None,
        **fields: Any,
    ) -> AsyncTrainingJob:
        """Train on a folder or archive of images, or on a dataset that is there.

        Args:
            source: a folder with a folder for each class, an archive of one, or a dataset's id or name.
            recipe: default: the one that fits the images.
            overrides: training options that differ from the recipe, such as `{"epochs": 5}`.
            name: of the job.
            progress: show a bar for the upload.
            dataset_options: for a folder or archive: options of `create_dataset`.
            fields: others of `POST /jobs`: `seed`, `metadata`, `priority`, `init_from`…

        Returns:
            The job, which begins when its dataset is checked and a slot is free.

        Raises:
            ApiError: the yard refuses it.
            FileNotFoundError: the source is a path, and there is nothing.
        """
        if Path(source).exists():
            dataset = await self.create_dataset(source, progress=progress, **(dataset_options or {}))
        elif isinstance(source, Path) or {"/", "\\"} & set(source):
            raise FileNotFoundError(f"there is no folder and no file {source}")
        else:
            dataset = await self.get_dataset(source)
        given = without_none({"recipe": recipe, "overrides": overrides, "name": name} | fields)
        return AsyncTrainingJob(self, await self.create_job(dataset["id"], **given))

    async def job(self, job_id: str) -> AsyncTrainingJob:
        """Return a job that is there, as `train` returns one."""
        return AsyncTrainingJob(self, await self.get_job(job_id))
