"""The body of `/uploads`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, computed_field

from api.schemas.base import DESCRIBED, Time
from trainyard.states import UploadState


class UploadRead(BaseModel):
    """A file that a client sends, in one request or in several, to make a dataset of it."""

    model_config = DESCRIBED

    id: str
    object: Literal["upload"] = "upload"
    name: str | None
    """What the client calls the file."""
    state: UploadState
    """`open`: bytes are still to come; `whole`: a dataset can be made of it."""
    size_bytes: int | None
    """Of the whole file; null if that was not announced yet."""
    offset_bytes: int
    """So many bytes have arrived and are on disk."""
    sha256: str | None
    """Of the whole file; null until it is whole."""
    created_at: Time
    expires_at: Time | None
    """Then it is removed; each new byte postpones that. Null: a dataset is being made of it."""

    @computed_field  # type: ignore[prop-decorator]  # mypy: no decorator above `property`
    @property
    def links(self) -> dict[str, str]:
        """Paths to related resources."""
        return {"self": f"/uploads/{self.id}"}
