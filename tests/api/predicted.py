"""Predictions over many images in a served yard, with a worker that the test plays."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sqlalchemy import update

from alexnet_core.layout import SEGMENT_ROWS, segment_key, segment_name
from tests.api.served import Served
from tests.trainyard.rows import OWNER
from trainyard.artifacts import predictions
from trainyard.artifacts.predictions import NewSegment
from trainyard.artifacts.quotas import Quota
from trainyard.database.connection import now
from trainyard.database.tables import Dataset, Upload
from trainyard.scheduling.claim_message import claim_at_once
from trainyard.scheduling.leases import Ending, Lease, end_attempt
from trainyard.states import UploadState, WorkKind

FACTS = {
    "name": "shapes", "num_classes": 2, "class_names": ["a", "b"], "image_px": 12, "channels": 3, "flip_safe": True,
    "num_train": 4, "num_val": 0, "num_test": 2,
}  # fmt: skip


def add_model(served: Served) -> str:
    """A checkpoint that can be named."""
    job_id = served.add_job()
    return served.add_checkpoint(job_id, 1).id


def add_dataset(served: Served, state: str = "ready") -> str:
    with served.database.writing() as session:
        session.add(
            Dataset(
                id="ds_shapes", owner=OWNER, name="shapes", state=state, facts=FACTS, digest="d", key="packs/ds_shapes",
                created_at=now(), source={"path": "/x"},
            )
        )  # fmt: skip
    return "ds_shapes"


def add_upload(served: Served, *, whole: bool = True) -> str:
    with served.database.writing() as session:
        session.add(
            Upload(
                id="upl_1", owner=OWNER, name="many.zip", details={}, state=UploadState.WHOLE if whole else "open",
                size_bytes=10, offset_bytes=10, sha256="0" * 64, folder_id="f", created_at=now(), expires_at=now() + 99,
            )
        )  # fmt: skip
    return "upl_1"


def submit(served: Served, **body: Any) -> dict[str, Any]:
    answer = served.http.post("/predictions", json=body)
    assert answer.status_code == 202, answer.text
    made: dict[str, Any] = answer.json()
    return made


def claim(served: Served) -> Lease:
    claimed = claim_at_once(served.database, "wrk_test", 60, kind=WorkKind.PREDICT)
    assert claimed is not None
    return claimed[1]


def row(number: int, *, file: str | None = None) -> dict[str, Any]:
    """A row as the child writes it; every fifth is an error."""
    bad = number % 5 == 4
    told = [{"label": "a", "index": 0, "probability": 0.75}, {"label": "b", "index": 1, "probability": 0.25}]
    return {
        "row": number, "file": file or f"a/{number}.png", "split": "test", "index": number, "label": "a",
        "predictions": [] if bad else told,
        "error": {"code": "image_unreadable", "message": "It is damaged."} if bad else None,
    }  # fmt: skip


def store(served: Served, lease: Lease, rows: list[dict[str, Any]]) -> None:
    """Publish and record a segment."""
    first_row = rows[0]["row"]
    key = segment_key(lease.job_id, segment_name(first_row, lease.lease_epoch))
    folder = served.settings.data_dir / key
    folder.mkdir(parents=True)
    data = "".join(json.dumps(it) + "\n" for it in rows).encode()
    (folder / SEGMENT_ROWS).write_bytes(data)
    good = sum(it["error"] is None for it in rows)
    counts = {
        "num_rows": len(rows), "num_errors": len(rows) - good, "num_labelled": good, "hits1": good, "hits5": good,
    }  # fmt: skip
    new = NewSegment(first_row, key, len(data), hashlib.sha256(data).hexdigest(), counts)
    with served.database.writing() as session:
        predictions.record_segment(session, lease, new, Quota(), num_images=100)


def end(served: Served, lease: Lease) -> None:
    with served.database.writing() as session:
        totals = predictions.read_totals(session, lease.job_id)
        end_attempt(session, lease, Ending(succeeded=True, test=totals.summarise()), first_backoff_s=1)


def reject(served: Served) -> None:
    with served.database.writing() as session:
        session.execute(
            update(Dataset).where(Dataset.id == "ds_shapes").values(state="rejected", error={"message": "no"})
        )
