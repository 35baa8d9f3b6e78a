"""The errors of aliases, of the models that they name, and of predictions: another part of `trainyard.errors`' tree.

ServiceError
├── NotFound
│   ├── AliasNotFound                   alias_not_found
│   ├── ModelNotFound                   model_not_found
│   └── PredictionNotFound              prediction_not_found
├── Unavailable
│   └── DeadlineExceeded 504            deadline_exceeded
└── Conflict
    ├── CheckpointUnusable              checkpoint_unusable
    ├── AliasMoved                      alias_moved
    ├── NothingToRollBackTo             nothing_to_roll_back_to
    └── PredictionNotEnded              prediction_not_ended
"""

from __future__ import annotations

from typing import ClassVar

from trainyard.errors import Conflict, NotFound, Unavailable


class AliasNotFound(NotFound):
    """There is no such alias. `GET /aliases` lists them."""

    code = "alias_not_found"


class ModelNotFound(NotFound):
    """There is no such model. `GET /v1/models` lists them."""

    code = "model_not_found"


class CheckpointUnusable(Conflict):
    """The checkpoint can't be loaded, or computes no numbers. Name another one."""

    code = "checkpoint_unusable"


class AliasMoved(Conflict):
    """Somebody else moved the alias at this moment. Look at it and try again."""

    code = "alias_moved"


class NothingToRollBackTo(Conflict):
    """The alias has named no other checkpoint before. Move it with `PUT /aliases/{name}`."""

    code = "nothing_to_roll_back_to"


class PredictionNotFound(NotFound):
    """There is no such prediction. `GET /predictions` lists yours."""

    code = "prediction_not_found"


class PredictionNotEnded(Conflict):
    """The prediction has not ended. Wait for its end, or follow its results as NDJSON."""

    code = "prediction_not_ended"


class DeadlineExceeded(Unavailable):
    """The answer was not there within the time that the request gives. Nothing more is computed for it."""

    status: ClassVar[int] = 504
    code = "deadline_exceeded"
