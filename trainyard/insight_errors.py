"""The errors of insight: the part of the tree of `trainyard.errors` that did not fit into its module.

ServiceError
├── NotFound
│   └── CalibrationNotFound             calibration_not_found
├── Conflict
│   └── DatasetDiffers                  dataset_differs
└── Unavailable
    ├── InsightQueueFull                insight_queue_full
    ├── InsightInProgress               insight_in_progress
    └── InsightFailed                   insight_failed
"""

from __future__ import annotations

from trainyard.errors import Conflict, NotFound, Unavailable


class CalibrationNotFound(NotFound):
    """The checkpoint has no calibration: there are no images that it was not trained on, or too few."""

    code = "calibration_not_found"


class DatasetDiffers(Conflict):
    """The dataset of this checkpoint is not what it was when the checkpoint was trained."""

    code = "dataset_differs"


class InsightQueueFull(Unavailable):
    """Too many requests for insight are waiting already. Try again in some seconds."""

    code = "insight_queue_full"


class InsightInProgress(Unavailable):
    """What this answer is made from is still being computed, once for each checkpoint. Ask again later."""

    code = "insight_in_progress"


class InsightFailed(Unavailable):
    """The computation failed: it took too long, or more memory than it may. Try again, or with another method."""

    code = "insight_failed"
