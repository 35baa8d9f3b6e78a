"""Keeps a part of the places for uploads free of any one owner, so that the others' uploads still find one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from trainyard.errors import TooManyUploads


class OwnerShares:
    """The bodies that each owner sends to this process at the moment. It belongs to the process's event loop."""

    def __init__(self, places: int) -> None:
        """Make it.

        Args:
            places: bodies that the process receives at once; one owner may have three quarters of them.
        """
        self.most_of_one = places - places // 4
        self._sent: Counter[str] = Counter()

    @contextmanager
    def taking(self, owner: str) -> Iterator[None]:
        """Receive a body of an owner inside the block.

        Raises:
            TooManyUploads: it sends as many as one may.
        """
        if self._sent[owner] >= self.most_of_one:
            raise TooManyUploads(
                f"you are sending {self.most_of_one} files already, the most that one owner may at a time: "
                "wait until one of them has arrived",
                retry_after_s=5,
            )
        self._sent[owner] += 1
        try:
            yield
        finally:
            self._sent[owner] -= 1
            if not self._sent[owner]:
                del self._sent[owner]
