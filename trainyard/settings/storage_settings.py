"""The settings of the object store of a yard with several machines."""

from __future__ import annotations

import re
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from trainyard.settings.documented_settings import DocumentedSettings
from trainyard.settings.setting_types import Endpoint


class StorageSettings(DocumentedSettings):
    """The object store."""

    storage_url: str | None = None
    """`s3://bucket/prefix`: the object store of packs, checkpoints, logs and event files, the same for API and workers.
    Needs the extra `s3`. Default: the data folder, which they must then share."""

    storage_endpoint: Endpoint | None = None
    """`http(s)://host:port` of an object store that is not AWS's own."""

    storage_region: str | None = None
    """Region of the object store. Default: what AWS's own settings say."""

    storage_access_key: SecretStr | None = None
    """Access key of the object store. Default: what AWS's own settings say, or the machine's role."""

    storage_secret_key: SecretStr | None = None
    """Secret key of the object store; goes with `storage_access_key`."""

    storage_cache_bytes: int = Field(20 * 2**30, ge=2**20)
    """Bytes that local copies of the object store's files may take in the data folder. Copies in use stay."""

    storage_timeout_s: float = Field(10, gt=0)
    """Seconds without a byte after which a request to the object store counts as failed."""

    storage_patience_s: float = Field(900, gt=0)
    """Seconds that an attempt which has finished training waits for the store to accept its last checkpoints. Then the
    job goes back into the queue."""

    @field_validator("storage_url")
    @classmethod
    def _names_a_bucket(cls, url: str | None) -> str | None:
        if url is not None and not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._/-]*)?", url):
            raise ValueError(f"storage_url is {url!r}: write it as s3://bucket/prefix, without a key in it")
        return url

    @model_validator(mode="after")
    def _both_keys_or_none(self) -> Self:
        if (self.storage_access_key is None) != (self.storage_secret_key is None):
            raise ValueError("storage_access_key and storage_secret_key belong together: set both, or neither")
        return self
