"""Every error that a request can be answered with. A class is a stable `code` with one HTTP status.

ServiceError 500                        internal_error
├── InvalidRequest 422                  invalid_request
│   ├── UnknownRecipe                   recipe_unknown
│   ├── InvalidConfig                   config_invalid
│   ├── IdempotencyConflict             idempotency_key_reused
│   └── InvalidImage                    image_unreadable
├── MalformedRequest 400                request_malformed
│   ├── JsonInvalid                     json_invalid
│   └── BodyUnreadable                  body_unreadable
├── Unauthenticated 401                 unauthenticated
├── CrossSiteRefused 403                cross_site_refused
├── NotFound 404                        route_not_found
│   ├── JobNotFound                     job_not_found
│   ├── DatasetNotFound                 dataset_not_found
│   ├── RecipeNotFound                  recipe_not_found
│   ├── CheckpointNotFound              checkpoint_not_found
│   ├── CheckpointPruned                checkpoint_pruned
│   ├── EventFilesNotFound              event_files_not_found
│   ├── ImageNotFound                   image_not_found
│   ├── ReportNotFound                  report_not_found
│   └── EvaluationNotFound              evaluation_not_found
├── MethodNotAllowed 405                method_not_allowed
├── RequestTimeout 408                  request_timeout
├── Conflict 409                        conflict
│   ├── IllegalTransition               illegal_transition
│   ├── InUse                           in_use
│   ├── NoTrainingState                 no_training_state
│   ├── NoCheckpointOfJob               no_checkpoint
│   ├── DatasetNotReady                 dataset_not_ready
│   ├── DatasetRejected                 dataset_rejected
│   └── CheckpointIncompatible          checkpoint_incompatible
├── TooLarge 413                        body_too_large
│   └── ImageTooLarge                   image_too_large
├── AddressTooLong 414                  url_too_long
├── UnsupportedMedia 415                unsupported_media_type
│   └── UnsupportedImageFormat          image_format_unsupported
├── BeyondTheEnd 416                    beyond_the_end
├── HostRefused 421                     host_refused
├── HeadersTooLarge 431                 headers_too_large
└── Unavailable 503                     unavailable
    ├── NoCheckpoint                    no_checkpoint
    ├── ModelLoading                    model_loading
    ├── PredictQueueFull                predict_queue_full
    ├── TooManyStreams                  too_many_streams
    ├── TooManyPictures                 too_many_pictures
    ├── TooManyDownloads                too_many_downloads
    ├── StorageUnavailable              storage_unavailable
    │   └── StorageMismatch             storage_mismatch
    ├── TooManyUploads                  too_many_uploads
    ├── TooManyConnections              too_many_connections
    └── DatabaseUnavailable             database_unavailable
        └── DatabaseFull 507            database_full

A class without a status has its parent's. One code has one status, but for `no_checkpoint`, to which the contract gives
two: 409 where the job that was named has none yet, 503 where none was named and nothing is trained.
`upload_errors`, `export_errors` and `access.refusals` have the errors of uploads, converted downloads and keys.
LeaseLost stands apart: a worker's write was refused because its lease is over. It never reaches a client.
"""

from __future__ import annotations

import inspect
from typing import ClassVar


class ServiceError(Exception):
    """Something went wrong on our side. Try again; if it persists, look for the request id in the API's log."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "internal_error"
    code: ClassVar[str] = "internal_error"

    def __init__(
        self, message: str | None = None, *, param: str | None = None, retry_after_s: int | None = None
    ) -> None:
        self.message = message or inspect.getdoc(type(self)) or self.code
        self.param = param
        self.retry_after_s = retry_after_s
        super().__init__(self.message)


class InvalidRequest(ServiceError):
    """The request can be read, and what it says is not valid."""

    status, type, code = 422, "invalid_request", "invalid_request"


class UnknownRecipe(InvalidRequest):
    """There is no such recipe. `GET /recipes` lists them."""

    code = "recipe_unknown"


class InvalidConfig(InvalidRequest):
    """The recipe with these overrides is not a config that can be trained."""

    code = "config_invalid"


class IdempotencyConflict(InvalidRequest):
    """This Idempotency-Key was used with another body. Use a new key for a new request."""

    code = "idempotency_key_reused"


class InvalidImage(InvalidRequest):
    """The image can't be read. Send a complete JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF or HEIC file."""

    code = "image_unreadable"


class MalformedRequest(ServiceError):
    """The request is not valid HTTP. Check what is between you and the API, such as a proxy."""

    status, type, code = 400, "invalid_request", "request_malformed"


class JsonInvalid(MalformedRequest):
    """The body is not JSON."""

    code = "json_invalid"


class BodyUnreadable(MalformedRequest):
    """The body can't be parsed. Check that it is what its Content-Type says."""

    code = "body_unreadable"


class Unauthenticated(ServiceError):
    """A valid key is needed: send it as `Authorization: Bearer <key>`."""

    status, type, code = 401, "authentication", "unauthenticated"


class CrossSiteRefused(ServiceError):
    """Pages of other sites may not change anything here. Send it from a program, or from the yard's own page."""

    status, type, code = 403, "forbidden", "cross_site_refused"


class NotFound(ServiceError):
    """There is no such path. `/docs` lists all routes."""

    status, type, code = 404, "not_found", "route_not_found"


class JobNotFound(NotFound):
    """There is no such job."""

    code = "job_not_found"


class DatasetNotFound(NotFound):
    """There is no such dataset. `GET /datasets` lists them."""

    code = "dataset_not_found"


class RecipeNotFound(NotFound):
    """There is no such recipe. `GET /recipes` lists them."""

    code = "recipe_not_found"


class CheckpointNotFound(NotFound):
    """There is no such checkpoint."""

    code = "checkpoint_not_found"


class CheckpointPruned(NotFound):
    """This checkpoint was pruned: only the best, the latest and aliased ones are kept."""

    code = "checkpoint_pruned"


class EventFilesNotFound(NotFound):
    """The job has no TensorBoard event files."""

    code = "event_files_not_found"


class ImageNotFound(NotFound):
    """The dataset has no such image. `GET /datasets/{dataset_id}/histogram` counts its images."""

    code = "image_not_found"


class ReportNotFound(NotFound):
    """The dataset has no report: it is built in, or its validation has not ended."""

    code = "report_not_found"


class EvaluationNotFound(NotFound):
    """The job has no evaluation: one is made at the end of each job that succeeds."""

    code = "evaluation_not_found"


class MethodNotAllowed(ServiceError):
    """This path does not support that method."""

    status, type, code = 405, "invalid_request", "method_not_allowed"


class RequestTimeout(ServiceError):
    """The request did not arrive in time. Send it again, complete, or over a faster connection."""

    status, type, code = 408, "invalid_request", "request_timeout"


class Conflict(ServiceError):
    """The request conflicts with the present state."""

    status, type, code = 409, "conflict", "conflict"


class IllegalTransition(Conflict):
    """The job's state does not allow this."""

    code = "illegal_transition"


class InUse(Conflict):
    """This is still in use. First remove or move what refers to it."""

    code = "in_use"


class NoTrainingState(Conflict):
    """The checkpoint no longer has its training state, so no job can continue from it."""

    code = "no_training_state"


class NoCheckpointOfJob(Conflict):
    """The job has no checkpoint yet. Wait for its first epoch to end."""

    code = "no_checkpoint"


class DatasetNotReady(Conflict):
    """The dataset is not ready yet. Wait until `GET /datasets/{dataset_id}` says `ready`."""

    code = "dataset_not_ready"


class DatasetRejected(Conflict):
    """The dataset was rejected. Its `error` and `report` say why; upload a corrected one as a new dataset."""

    code = "dataset_rejected"


class CheckpointIncompatible(Conflict):
    """Another version of Trainyard wrote this checkpoint, in a format that this version can't read."""

    code = "checkpoint_incompatible"


class TooLarge(ServiceError):
    """The request's body is too large."""

    status, type, code = 413, "too_large", "body_too_large"


class ImageTooLarge(TooLarge):
    """The image has too many pixels. Send a smaller one."""

    code = "image_too_large"


class AddressTooLong(ServiceError):
    """The URL of the request is too long. Shorten its query."""

    status, type, code = 414, "invalid_request", "url_too_long"


class UnsupportedMedia(ServiceError):
    """The body has a type that is not supported."""

    status, type, code = 415, "unsupported_media", "unsupported_media_type"


class UnsupportedImageFormat(UnsupportedMedia):
    """The image's format is not supported. Send a JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF or HEIC file."""

    code = "image_format_unsupported"


class BeyondTheEnd(ServiceError):
    """There are fewer bytes than that. Begin at an earlier one."""

    status, type, code = 416, "invalid_request", "beyond_the_end"

    def __init__(self, message: str | None = None, *, param: str | None = None, size_bytes: int | None = None) -> None:
        self.size_bytes = size_bytes  #: of a file of which a range was asked for
        super().__init__(message, param=param)


class HostRefused(ServiceError):
    """This yard asks for no key, so it answers only under its own names. Add this one to `TRAINYARD_TRUSTED_HOSTS`."""

    status, type, code = 421, "forbidden", "host_refused"


class HeadersTooLarge(ServiceError):
    """The request's headers are too large, or too many. Send fewer."""

    status, type, code = 431, "invalid_request", "headers_too_large"


class Unavailable(ServiceError):
    """Not possible right now. Try again after the seconds that `Retry-After` names."""

    status, type, code = 503, "unavailable", "unavailable"

    def __init__(self, message: str | None = None, *, param: str | None = None, retry_after_s: int | None = 1) -> None:
        super().__init__(message, param=param, retry_after_s=retry_after_s)


class NoCheckpoint(Unavailable):
    """There is no checkpoint to predict with yet. Train first: `POST /jobs`."""

    code = "no_checkpoint"


class ModelLoading(Unavailable):
    """The model is still being loaded. Try again in a moment."""

    code = "model_loading"


class PredictQueueFull(Unavailable):
    """Too many predictions are waiting already. Try again in a moment."""

    code = "predict_queue_full"


class TooManyStreams(Unavailable):
    """Too many event streams are open. Try again in a moment, or read the list of events instead."""

    code = "too_many_streams"


class TooManyPictures(Unavailable):
    """Too many pictures of datasets are being drawn. Try again in a second."""

    code = "too_many_pictures"


class TooManyDownloads(Unavailable):
    """As many downloads are being made as may be at a time. Try again when one has ended."""

    code = "too_many_downloads"


class StorageUnavailable(Unavailable):
    """The store of packs, checkpoints and logs does not answer. Nothing was lost; try again in a moment."""

    code = "storage_unavailable"


class TooManyUploads(Unavailable):
    """Too many large bodies are being received already. Try again in a moment, or send a smaller one."""

    code = "too_many_uploads"


class TooManyConnections(Unavailable):
    """Too many connections are in use. Try again in a moment, and use one connection for several requests."""

    code = "too_many_connections"


class StorageMismatch(StorageUnavailable):
    """The store that this process sees is not the one that the database belongs to. `/readyz` says which it is."""

    code = "storage_mismatch"


class DatabaseUnavailable(Unavailable):
    """The database does not answer. Nothing was changed; try again in a moment."""

    code = "database_unavailable"


class DatabaseFull(DatabaseUnavailable):
    """The database's disk is full. Nothing was changed; free some space, or try again later."""

    status, type, code = 507, "insufficient_storage", "database_full"


class LeaseLost(Exception):
    """The lease under which a worker wrote has ended: nothing was written, and its trainer must stop."""
