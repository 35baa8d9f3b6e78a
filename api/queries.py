"""Query parameters that several routes share."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

LimitQuery = Annotated[int, Query(ge=1, le=100, description="Entries on the page at most.")]
AfterQuery = Annotated[
    str | None, Query(pattern=r"^[0-9A-Za-z_-]{1,100}$", description="`last_id` of the page before.")
]
