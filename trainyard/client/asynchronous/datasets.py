"""The client's methods for datasets."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from trainyard.client.asynchronous.connection import AsyncConnection, without_none
from trainyard.client.asynchronous.uploading import upload
from trainyard.client.asynchronous.waiting import run_blocking, sleep
from trainyard.client.folder_archive import open_source
from trainyard.client.kinds import SETTLED, OnProgress
from trainyard.client.models import Dataset
from trainyard.client.progress import show_bytes, show_dataset


class AsyncDatasetMethods(AsyncConnection):
    """A part of `AsyncClient`."""

    async def list_datasets(self) -> list[Dataset]:
        """Return the newest hundred datasets that jobs can train on, including the built-in ones."""
        return await self._first_page(Dataset, "/datasets")

    def iter_datasets(self) -> AsyncIterator[Dataset]:
        """Yield all datasets that jobs can train on, page by page."""
        return self._iterate(Dataset, "/datasets")

    async def create_dataset(
        self,
        source: str | Path,
        *,
        name: str | None = None,
        image_px: int | None = None,
        flip_safe: bool | None = None,
        validation_fraction: float | None = None,
        test_fraction: float | None = None,
        split_seed: int | None = None,
        parent_id: str | None = None,
        progress: bool = False,
        on_sent: OnProgress | None = None,
    ) -> Dataset:
        """Upload a folder or archive of images and have a dataset made of it; see `POST /datasets` for the options.

        An upload of the same files that was cut, by whatever, goes on where it stopped. Repeating the call is harmless:
        the same files with the same name and options give the dataset that is there.

        Args:
            source: the folder, with a folder for each class, or an archive of one.
            name: of the dataset; default: that of the folder or archive.
            image_px: side of the stored squares; default: by the images' sizes.
            flip_safe: whether a mirrored image still shows its class; default: true.
            validation_fraction: the share of each class to validate on, if the images come without such a split.
            test_fraction: the share of the rest to test on, likewise.
            split_seed: another seed holds other images back.
            parent_id: the dataset that this one is a new version of.
            progress: show a bar.
            on_sent: called with the bytes that have arrived and those of all.

        Returns:
            The dataset, which is validated from now on: `wait_for_dataset`.

        Raises:
            ApiError: the yard refuses it.
            FileNotFoundError: there is no such folder or archive.
        """
        path = Path(source)
        with show_bytes(f"uploading {path.name}", progress, on_sent) as tell:
            upload_id = await upload(self._http, await run_blocking(open_source, path), on_sent=tell)
        body = {
            "name": name or _name_of(path),
            "upload": upload_id,
            "image_px": image_px,
            "flip_safe": flip_safe,
            "validation_fraction": validation_fraction,
            "test_fraction": test_fraction,
            "split_seed": split_seed,
            "parent_id": parent_id,
        }
        return await self._read(Dataset, "POST", "/datasets", json=without_none(body), may_repeat=True)

    async def get_dataset(self, dataset: str) -> Dataset:
        """Return a dataset by id or name."""
        return await self._read(Dataset, "GET", f"/datasets/{quote(dataset, safe='')}")

    async def get_image(self, dataset: str, split: str, index: int, *, px: int | None = None) -> bytes:
        """Return an image of a dataset as a PNG.

        Args:
            dataset: its id or name.
            split: `train`, `validation` or `test`.
            index: the image's number within the split.
            px: longest side of the picture; None: as it is stored.
        """
        path = f"/datasets/{quote(dataset, safe='')}/images/{split}/{index}"
        return (await self._send("GET", path, params=without_none({"px": px}))).content

    async def delete_dataset(self, dataset: str) -> None:
        """Remove a dataset that no unfinished job needs."""
        await self._send("DELETE", f"/datasets/{quote(dataset, safe='')}")

    async def wait_for_dataset(
        self,
        dataset: str,
        *,
        timeout_s: float | None = None,
        poll_s: float = 0.5,
        progress: bool = False,
        on_change: Callable[[Dataset], None] | None = None,
    ) -> Dataset:
        """Wait until a dataset is ready or rejected, and return it; as `wait` does for a job.

        Raises:
            TimeoutError: it is neither yet.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        seen: Any = None
        with show_dataset(dataset, progress, on_change) as tell:
            while True:
                found = await self.get_dataset(dataset)
                look = (found["state"], found["progress"], found["waiting_for"])
                if look != seen:
                    seen = look
                    tell(found)
                if found["state"] in SETTLED:
                    return found
                if deadline is not None and time.monotonic() > deadline:
                    raise TimeoutError(f"dataset {dataset} is still {found['state']} after {timeout_s} s")
                await sleep(poll_s)


def _name_of(path: Path) -> str:
    """Return the name of a folder, or of an archive without its endings."""
    name = path.resolve().name
    if path.is_dir():
        return name
    for ending in (".zip", ".tar", ".tgz", ".tar.gz", ".tar.zst", ".tzst"):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name
