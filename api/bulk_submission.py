"""Submits predictions over many images for `POST /predictions`, and describes them as clients see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from alexnet_core.insight.serving_facts import ServingFacts
from api.schemas.bulk_predictions import PredictionCreate, PredictionRead
from api.services import Services
from api.submission import Request, submit_once
from trainyard.artifacts import checkpoints, datasets, predictions, quotas, retries, uploads
from trainyard.artifacts.calibrations import read_calibration
from trainyard.artifacts.predictions import NewPrediction
from trainyard.artifacts.quotas import Quota
from trainyard.database.tables import Checkpoint, Job, JobRow
from trainyard.insight_errors import CalibrationNotFound
from trainyard.scheduling.queue_view import get_outlook
from trainyard.settings import Settings
from trainyard.states import JobState

ROUTE = "POST /predictions"


@dataclass(frozen=True)
class SubmittedPrediction:
    """A prediction in the queue, and whether this request made it."""

    prediction: PredictionRead
    is_new: bool


def submit_prediction(services: Services, owner: str, body: PredictionCreate, key: str | None) -> SubmittedPrediction:
    """Queue a prediction.

    Args:
        services: of this process.
        owner: whose it is.
        body: what was asked for.
        key: the Idempotency-Key, if there is one.

    Raises:
        ServiceError: an id is unknown, the dataset is not ready, there is no model, or the key belongs to another
            request.
    """

    def submit(session: Session) -> str:
        quotas.hold_owner(session, owner)
        quotas.check_prediction(session, owner, Quota.of(services.settings))
        dataset_id, is_whole = None, True
        if body.dataset is not None:
            dataset = datasets.hold_dataset(session, owner, body.dataset)
            predictions.check_dataset(dataset, body.split)
            dataset_id = dataset.id
        else:
            is_whole = uploads.hold(session, owner, str(body.upload))
        checkpoint = _hold_model(session, owner, body.model)
        new = NewPrediction(
            checkpoint_id=checkpoint.id,
            top_k=body.top_k,
            model=predictions.describe_model(checkpoint, body.model),
            dataset_id=dataset_id,
            upload_id=body.upload,
            is_whole=is_whole,
            split=body.split,
            temperature=_read_temperature(session, checkpoint) if body.calibrated else None,
            name=body.name,
        )
        max_failures = services.settings.max_failures
        return predictions.submit_prediction(session, owner, new, max_failures=max_failures).id

    prediction_id, is_new = submit_once(services, owner, Request(ROUTE, key, body.model_dump(mode="json")), submit)
    with services.database.reading() as session:
        work = predictions.get_prediction(session, owner, prediction_id)
        [described] = describe_predictions(session, services.settings, [work])
    return SubmittedPrediction(described, is_new)


def _hold_model(session: Session, owner: str, reference: str) -> Checkpoint:
    """Return the checkpoint that a reference names, locked until the prediction that needs it is recorded."""
    found = checkpoints.resolve_model(session, owner, reference)
    return retries.hold_checkpoint(session, owner, found.id, param="model")


def _read_temperature(session: Session, checkpoint: Checkpoint) -> float:
    calibration = read_calibration(session, checkpoint.id)
    if calibration is None:
        raise CalibrationNotFound(
            f"checkpoint {checkpoint.id} has no calibration yet: `GET /checkpoints/{checkpoint.id}/calibration` makes "
            "it; then send this again",
            param="calibrated",
        )
    return ServingFacts.model_validate(calibration).temperature


def describe_predictions(session: Session, settings: Settings, rows: Sequence[Job | JobRow]) -> list[PredictionRead]:
    """Return predictions as clients see them, with a few queries for any number of them."""
    totals = predictions.read_totals_of(session, [row.id for row in rows])
    owners = {row.owner for row in rows if row.state == JobState.QUEUED}
    outlook = get_outlook(session, owners, settings.max_running_per_owner) if owners else None
    return [
        PredictionRead.of(
            row,
            totals[row.id],
            waiting_for=None if outlook is None else outlook.waits_for(row),
            keep_s=settings.prediction_keep_s,
        )
        for row in rows
    ]
