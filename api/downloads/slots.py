"""Limits how many datasets are downloaded at a time, because each download reads a whole pack."""

from __future__ import annotations

import threading

from trainyard.errors import TooManyDownloads

MAX_DOWNLOADS = 8


class DownloadSlots:
    """The free downloads of one process. Any thread may take and give back."""

    def __init__(self, number: int = MAX_DOWNLOADS) -> None:
        self._free = threading.BoundedSemaphore(number)

    def take(self) -> DownloadSlot:
        """Take one.

        Raises:
            TooManyDownloads: all are taken.
        """
        if not self._free.acquire(blocking=False):
            raise TooManyDownloads(retry_after_s=10)
        return DownloadSlot(self._free)


class DownloadSlot:
    """A download's slot, until it is closed."""

    def __init__(self, free: threading.BoundedSemaphore) -> None:
        self._free: threading.BoundedSemaphore | None = free

    def close(self) -> None:
        """Give it back; harmless a second time."""
        free, self._free = self._free, None
        if free is not None:
            free.release()
