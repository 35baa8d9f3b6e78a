"""What the predict engine tells about its work: the interface, and an observer that ignores everything.

Every call is made on the way of a prediction, so an implementation must return at once and never raise.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol


class LoadOutcome(StrEnum):
    """How the load of a checkpoint ended."""

    LOADED = "loaded"  #: it is verified, warm and ready to answer
    DAMAGED = "damaged"  #: its files are missing or do not match their checksums
    FAILED = "failed"  #: it can't be read now, or not by this process


class ServingObserver(Protocol):
    """Is told what the engine does. Any thread may call."""

    def decoded(self, seconds: Sequence[float], *, large: bool) -> None:
        """Tell that images were decoded and preprocessed, with the times that it took without waiting for a thread.

        Args:
            seconds: how long each took.
            large: they were decoded in a process of their own.
        """
        ...

    def queued(self, images: int) -> None:
        """Tell how many admitted images are in the engine now. Called whenever that number changes."""
        ...

    def computed(self, images: int, seconds: float, waited_s: Sequence[float]) -> None:
        """Tell that a batch was computed.

        Args:
            images: its size.
            seconds: how long the network took.
            waited_s: of each image, the time between being ready and the start of the batch.
        """
        ...

    def loaded(self, seconds: float, outcome: LoadOutcome) -> None:
        """Tell that a checkpoint was loaded, verified and warmed, or that this failed. Called once a load."""
        ...

    def holds(self, models: int, size_bytes: int) -> None:
        """Tell how many models are in memory now, and the bytes of their parameters. Called when that changes."""
        ...

    def serves(self, publication: int) -> None:
        """Tell the publication number of the checkpoint that answers as `latest` from now on; 0: there is none."""
        ...


class SilentObserver:
    """Ignores everything."""

    def decoded(self, seconds: Sequence[float], *, large: bool) -> None:
        """See `ServingObserver`."""

    def queued(self, images: int) -> None:
        """See `ServingObserver`."""

    def computed(self, images: int, seconds: float, waited_s: Sequence[float]) -> None:
        """See `ServingObserver`."""

    def loaded(self, seconds: float, outcome: LoadOutcome) -> None:
        """See `ServingObserver`."""

    def holds(self, models: int, size_bytes: int) -> None:
        """See `ServingObserver`."""

    def serves(self, publication: int) -> None:
        """See `ServingObserver`."""
