"""Parameters that several routes share."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Header, Path, Query

Split = Literal["train", "validation", "test"]

MAX_REFERENCE = 200  #: characters of the name of a model
ModelQuery = Annotated[
    str,
    Query(
        max_length=MAX_REFERENCE,
        description="`latest`, an alias, `job_…` (its best), `job_…@latest`, `job_…@epoch-3` or `ckpt_…`.",
    ),
]
LimitQuery = Annotated[int, Query(ge=1, le=100, description="Most entries on the page.")]
AfterQuery = Annotated[
    str | None, Query(pattern=r"^[0-9A-Za-z_-]{1,100}$", description="`last_id` of the previous page.")
]
KeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[!-~]([ -~]{0,253}[!-~])?$",
        description="1 to 255 characters of your choice: the same request, sent again with the same key within a day, "
        "gives what it made the first time.",
    ),
]
StickyHeader = Annotated[
    str | None,
    Header(
        alias="X-Trainyard-Sticky",
        min_length=1,
        max_length=200,
        description="For an alias with a canary: requests with the same text, such as a user's id, are answered by the "
        "same side. Without it chance decides.",
    ),
]
JobPath = Annotated[str, Path(description="The job's id, such as `job_01m867mjxcwzg9jmycd4rmka44`.")]
PredictionPath = Annotated[str, Path(description="The prediction's id, such as `pred_01m867mjxcwzg9jmycd4rmka44`.")]
CheckpointPath = Annotated[str, Path(description="The checkpoint's id, such as `ckpt_01m867nfjbcxgh62576cf45x6p`.")]
DatasetPath = Annotated[str, Path(description="The dataset's id or name, such as `ds_digits` or `digits`.")]
SplitPath = Annotated[Split, Path(description="The split.")]
SplitQuery = Annotated[Split | None, Query(description="Only images of this split.")]
LabelQuery = Annotated[str | None, Query(max_length=200, description="Only images of the class with this name.")]
UploadPath = Annotated[str, Path(description="The upload's id, such as `upl_01m867mjxcwzg9jmycd4rmka44`.")]
RecipePath = Annotated[str, Path(description="The recipe's name, such as `quick`.")]
