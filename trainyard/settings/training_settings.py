"""The settings of a worker's slots, and of the trainers in them."""

from __future__ import annotations

from pydantic import Field

from trainyard.settings.documented_settings import DocumentedSettings
from trainyard.settings.setting_types import Folder


class TrainingSettings(DocumentedSettings):
    """Slots and trainers."""

    slots: int | None = Field(None, ge=1, le=64)
    """Jobs that a worker trains at the same time. Default: one for each GPU, or one on a machine without GPUs."""

    devices: str = "auto"
    """The slots' devices, by comma: `cpu`, `cuda:0,cuda:1`. `auto`: every GPU that `nvidia-smi` lists, else the CPU."""

    trainer_threads: int | None = Field(None, ge=1, le=1024)
    """CPU threads of one trainer. Default: the cores of the machine divided by the slots."""

    spare_trainer: bool = True
    """Whether a worker keeps a trainer ready that has loaded torch, so that the next job begins at once.

    Without, each job begins some seconds later, and a worker that has no job takes about 390 MB less.
    """

    locks_dir: Folder | None = None
    """Folder of the GPUs' lock files, the same for all workers of a machine. Default: in its temporary folder.

    Workers in containers need a folder that they share.
    """

    max_running_per_owner: int | None = Field(None, ge=1)
    """Most jobs of one owner that may run at once. Default: no limit. Set the same value for API and workers."""

    recovery_every_s: float = Field(60, gt=0)
    """Seconds between two recovery checkpoints of a running job."""

    keep_latest: int = Field(2, ge=1, le=1000)
    """Newest epoch checkpoints that are kept for each job, besides its best one and every one with an alias."""

    max_failures: int = Field(3, ge=1, le=100)
    """Crashes, hangs or lost leases, without a new checkpoint in between, after which a job fails with `crash_loop`."""

    backoff_s: float = Field(2, ge=0)
    """Wait before a job's second try after a failure; doubled with each further one, at most five minutes."""

    hang_s: float = Field(600, gt=0)
    """Seconds without progress after which a trainer counts as hung and is killed. While it still loads torch it has at
    least two minutes."""

    stop_grace_s: float = Field(30, gt=0)
    """Seconds from telling a trainer to stop until SIGTERM, and again from SIGTERM until SIGKILL."""

    self_fence_s: float = Field(600, gt=0)
    """Seconds without the database after which a worker stops its own trainer."""
