"""Which scopes open which routes: the one table of it. A route without a row does not start.

Where a row has several scopes, each of them opens the route. `admin` opens every one.
"""

from __future__ import annotations

from trainyard.access.scopes import ALL_SCOPES, Scope

Needed = frozenset[Scope]

_ADMIN = frozenset({Scope.ADMIN})
_READ = frozenset({Scope.READ})
_TRAIN = frozenset({Scope.TRAIN})
_PREDICT = frozenset({Scope.PREDICT})
_ANY = ALL_SCOPES  #: every key
OPEN = None  #: also who has no key

ROUTES: dict[str, Needed | None] = {
    # the yard
    "GET /healthz": OPEN,
    "GET /readyz": OPEN,
    "GET /yard": OPEN,
    "GET /metrics": _ADMIN,
    "POST /session": OPEN,
    "GET /session": _ANY,
    "DELETE /session": OPEN,
    "POST /keys": _ADMIN,
    "GET /keys": _ADMIN,
    "DELETE /keys/{key_id}": _ADMIN,
    "GET /events": _READ,
    "GET /workers": _READ,
    "GET /queue": _READ,
    "GET /recipes": _ANY,
    "GET /recipes/{name}": _ANY,
    "POST /recipes/preview": _READ | _TRAIN,
    # jobs
    "POST /jobs": _TRAIN,
    "GET /jobs": _READ,
    "GET /jobs/{job_id}": _READ,
    "PATCH /jobs/{job_id}": _TRAIN,
    "DELETE /jobs/{job_id}": _TRAIN,
    "POST /jobs/{job_id}/cancel": _TRAIN,
    "POST /jobs/{job_id}/pause": _TRAIN,
    "POST /jobs/{job_id}/resume": _TRAIN,
    "POST /jobs/{job_id}/retry": _TRAIN,
    "GET /jobs/{job_id}/checkpoints": _READ,
    "GET /jobs/{job_id}/curves.png": _READ,
    "GET /jobs/{job_id}/evaluation": _READ,
    "GET /jobs/{job_id}/evaluation/images": _READ,
    "GET /jobs/{job_id}/events": _READ,
    "GET /jobs/{job_id}/logs": _READ,
    "GET /jobs/{job_id}/metrics": _READ,
    "GET /series": _READ,
    # checkpoints and aliases
    "GET /checkpoints": _READ,
    "GET /checkpoints/{checkpoint_id}": _READ,
    "GET /checkpoints/{checkpoint_id}/calibration": _READ,
    "GET /checkpoints/{checkpoint_id}/download": _READ,
    "GET /checkpoints/{checkpoint_id}/filters.png": _READ,
    "GET /aliases": _READ,
    "GET /aliases/{name}": _READ,
    "PUT /aliases/{name}": _TRAIN,
    "DELETE /aliases/{name}": _TRAIN,
    "GET /aliases/{name}/history": _READ,
    "POST /aliases/{name}/rollback": _TRAIN,
    # datasets; a file may also be sent to have its images predicted
    "POST /datasets": _TRAIN,
    "GET /datasets": _READ,
    "GET /datasets/{dataset_id}": _READ,
    "DELETE /datasets/{dataset_id}": _TRAIN,
    "GET /datasets/{dataset_id}/download": _READ,
    "GET /datasets/{dataset_id}/events": _READ,
    "GET /datasets/{dataset_id}/histogram": _READ,
    "GET /datasets/{dataset_id}/images": _READ,
    "GET /datasets/{dataset_id}/images/{split}/{index}": _READ,
    "GET /datasets/{dataset_id}/mean.png": _READ,
    "GET /datasets/{dataset_id}/preview": _READ,
    "GET /datasets/{dataset_id}/rejected": _READ,
    "GET /datasets/{dataset_id}/report": _READ,
    "GET /datasets/{dataset_id}/sprite": _READ,
    "OPTIONS /uploads": _ANY,
    "POST /uploads": _TRAIN | _PREDICT,
    "GET /uploads": _READ | _TRAIN | _PREDICT,
    "GET /uploads/{upload_id}": _READ | _TRAIN | _PREDICT,
    "PATCH /uploads/{upload_id}": _TRAIN | _PREDICT,
    "DELETE /uploads/{upload_id}": _TRAIN | _PREDICT,
    # jobs, models and files as OpenAI's package knows them
    "POST /v1/fine_tuning/jobs": _TRAIN,
    "GET /v1/fine_tuning/jobs": _READ,
    "GET /v1/fine_tuning/jobs/{fine_tuning_job_id}": _READ,
    "POST /v1/fine_tuning/jobs/{fine_tuning_job_id}/cancel": _TRAIN,
    "POST /v1/fine_tuning/jobs/{fine_tuning_job_id}/pause": _TRAIN,
    "POST /v1/fine_tuning/jobs/{fine_tuning_job_id}/resume": _TRAIN,
    "GET /v1/fine_tuning/jobs/{fine_tuning_job_id}/events": _READ,
    "GET /v1/fine_tuning/jobs/{fine_tuning_job_id}/checkpoints": _READ,
    "GET /v1/models": _READ,
    "GET /v1/models/{model}": _READ,
    "DELETE /v1/models/{model}": _TRAIN,
    "POST /v1/files": _TRAIN,
    "GET /v1/files": _READ,
    "GET /v1/files/{file_id}": _READ,
    "DELETE /v1/files/{file_id}": _TRAIN,
    "GET /v1/files/{file_id}/content": _READ,
    # predictions
    "POST /predict": _PREDICT,
    "POST /explain": _PREDICT,
    "POST /activations": _PREDICT,
    "POST /similar": _PREDICT,
    "POST /predictions": _PREDICT,
    "GET /predictions": _READ | _PREDICT,
    "GET /predictions/{prediction_id}": _READ | _PREDICT,
    "DELETE /predictions/{prediction_id}": _PREDICT,
    "POST /predictions/{prediction_id}/cancel": _PREDICT,
    "GET /predictions/{prediction_id}/events": _READ | _PREDICT,
    "GET /predictions/{prediction_id}/results": _READ | _PREDICT,
    # the Open Inference Protocol: its clients ask for health and metadata before they infer
    "GET /v2": _READ | _PREDICT,
    "GET /v2/health/live": _READ | _PREDICT,
    "GET /v2/health/ready": _READ | _PREDICT,
    "GET /v2/models/{name}": _READ | _PREDICT,
    "GET /v2/models/{name}/ready": _READ | _PREDICT,
    "GET /v2/models/{name}/versions/{version}": _READ | _PREDICT,
    "GET /v2/models/{name}/versions/{version}/ready": _READ | _PREDICT,
    "POST /v2/models/{name}/infer": _PREDICT,
    "POST /v2/models/{name}/versions/{version}/infer": _PREDICT,
    "POST /v2/repository/index": _READ | _PREDICT,
    "POST /v2/repository/models/{name}/load": _PREDICT,
    "POST /v2/repository/models/{name}/unload": _PREDICT,
}


def scopes_of(method: str, path: str) -> Needed | None:
    """Return the scopes of which a key needs one. `OPEN`: no key is needed.

    Raises:
        LookupError: the route has no row; the message says what to do.
    """
    try:
        return ROUTES[f"{method} {path}"]
    except KeyError:
        raise LookupError(f"{method} {path} has no row in api/access/route_scopes.py: say who may ask for it") from None
