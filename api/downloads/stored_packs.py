"""Opens the packs of ready datasets, wherever the store keeps them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from alexnet_core.data.pack import Pack, open_pack
from alexnet_core.errors import DatasetChanged, DatasetDamaged, DatasetUnavailable
from trainyard.database.tables import Dataset
from trainyard.errors import DatasetNotReady, DatasetRejected, StorageUnavailable
from trainyard.states import DatasetState
from trainyard.storage.interface import Storage, StoredFilesDamaged


@dataclass(frozen=True)
class StoredPack:
    """A ready dataset and where its pack is."""

    dataset_id: str
    name: str
    key: str  #: of the pack in the store
    digest: str
    is_builtin: bool
    made_at: float

    @classmethod
    def of(cls, dataset: Dataset) -> StoredPack:
        """Return the pack of a dataset.

        Raises:
            DatasetNotReady: it has none yet.
            DatasetRejected: it will never have one.
        """
        if dataset.state is DatasetState.READY and dataset.digest is not None:
            return cls(
                dataset.id, dataset.name, dataset.key, dataset.digest, dataset.owner is None, dataset.ready_at or 0
            )
        if dataset.state is DatasetState.REJECTED:
            raise DatasetRejected(
                f"dataset {dataset.id} was rejected, so there is nothing to look at but its report: "
                f"`GET /datasets/{dataset.id}/report`",
                param="dataset_id",
            )
        if dataset.owner is None:
            raise DatasetNotReady(
                f"the built-in dataset {dataset.name} is made before the first job that uses it: queue one "
                f'(`POST /jobs {{"dataset": "{dataset.name}"}}`) and look again when it runs',
                param="dataset_id",
            )
        raise DatasetNotReady(
            f"dataset {dataset.id} is {dataset.state}: wait until `GET /datasets/{dataset.id}` says `ready`",
            param="dataset_id",
        )

    @contextlib.contextmanager
    def open(self, storage: Storage) -> Iterator[Pack]:
        """Open the pack; nobody removes it while the block runs. A store elsewhere is asked for it first.

        Raises:
            DatasetNotReady: the pack is not in the store any more, or is damaged there.
            StorageUnavailable: it can't be read now.
        """
        with contextlib.ExitStack() as opened:
            try:
                pack = open_pack(opened.enter_context(storage.materialise(self.key)))
            except (FileNotFoundError, StoredFilesDamaged, DatasetUnavailable, DatasetDamaged, DatasetChanged) as exc:
                again = "the next job that uses it makes it again" if self.is_builtin else "add the dataset again"
                raise DatasetNotReady(
                    f"the pack of dataset {self.dataset_id} is missing from the store or damaged: {again}",
                    param="dataset_id",
                ) from exc
            except OSError as exc:
                raise StorageUnavailable(f"dataset {self.dataset_id} can't be read now: try again in a moment") from exc
            yield pack
