"""The settings that say how often, and after how long, a yard looks after itself."""

from __future__ import annotations

from pydantic import Field

from trainyard.settings.documented_settings import DocumentedSettings


class LeaseSettings(DocumentedSettings):
    """Leases, wake-up messages and the removal of files."""

    lease_ttl_s: float = Field(60, gt=0)
    """Seconds after its last heartbeat at which a worker's right to write for a job ends."""

    tick_s: float = Field(1, gt=0)
    """Seconds between a supervisor's heartbeats. A cancel or pause is noticed within this time."""

    idle_poll_s: float = Field(5, gt=0)
    """Seconds after which a worker with a free slot looks for jobs again, even without a wake-up message."""

    reaper_s: float = Field(10, gt=0)
    """Seconds between two searches for expired leases."""

    relay_s: float = Field(0.5, gt=0)
    """Seconds between two looks into the outbox. A commit in the same process wakes the relay at once."""

    wake_again_s: float = Field(15, gt=0)
    """Seconds after which another wake-up message is sent for a job that nobody claimed."""

    garbage_grace_s: float = Field(60, ge=0)
    """Seconds between a checkpoint's pruning in the database and the removal of its files."""

    leftover_s: float = Field(3600, gt=0)
    """Seconds without a change after which a half-written dataset pack counts as left by a killed process."""
