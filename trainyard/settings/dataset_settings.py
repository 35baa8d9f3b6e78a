"""The settings that say where datasets come from, and how much of them a yard takes in."""

from __future__ import annotations

from pydantic import Field

from trainyard.settings.documented_settings import DocumentedSettings
from trainyard.settings.setting_types import Folder


class DatasetSettings(DocumentedSettings):
    """Datasets and uploads."""

    datasets_dir: Folder | None = None
    """Folder with the published files of built-in datasets, each in a sub-folder with its name, such as `cifar10`.

    For a dataset without such a folder: Debian's `dataset-fashion-mnist`, else one download.
    """

    dataset_folders: str = ""
    """Folders of this machine, separated by `:`, below which `POST /datasets` may name a folder or archive by its path.
    Default: none."""

    max_dataset_files: int = Field(1_000_000, ge=1)
    """Most members of an archive that is taken in as a dataset."""

    max_unpacked_bytes: int = Field(256 * 2**30, ge=2**20)
    """Most bytes that all members of such an archive may have together, unpacked."""

    max_pack_bytes: int = Field(256 * 2**30, ge=2**20)
    """Largest file that is written while a dataset is taken in: its stored images, or an unpacked tar."""

    validation_memory_bytes: int = Field(4 * 2**30, ge=2**28)
    """Memory that the process which takes in a dataset may allocate."""

    validation_cpu_s: int = Field(6 * 3600, ge=1)
    """Seconds of CPU time that it may take."""

    max_dataset_upload_bytes: int = Field(20 * 2**30, ge=1024)
    """Largest file of which a dataset can be made: of `POST /datasets` and of an upload, in bytes."""

    max_uploads_at_once: int = Field(16, ge=1)
    """Files for datasets that an API process receives at once; one owner may send 3/4 of them. Beyond it: 503."""

    max_open_uploads_per_owner: int = Field(100, ge=1)
    """Uploads of one owner that no dataset has been made of yet."""

    max_dataset_bytes_per_owner: int | None = Field(None, ge=1)
    """Most bytes of one owner's datasets, uploads and results of predictions together. Default: no limit."""

    max_datasets_per_owner: int | None = Field(None, ge=1)
    """Most datasets of one owner; rejected ones do not count. Default: no limit."""

    max_dataset_images_per_owner: int | None = Field(None, ge=1)
    """Most images of one owner's datasets together. An owner who has them can't send more. Default: no limit."""

    min_free_disk_bytes: int = Field(2**30, ge=0)
    """Bytes that uploads leave free on the disk of the data folder. Beyond it the answer is 507, and the weights of
    what the API serves stay in memory."""

    upload_expires_s: float = Field(24 * 3600, gt=0)
    """Seconds without a new byte after which an upload is removed, unless a dataset is being made of it."""
