"""Draws each picture once, in threads of its own, and keeps it until others are asked for more often.

Requests for a picture that is being drawn wait for it. The routes' threads never draw, so that pictures hold up nothing
else, however many there are. Pages of text about a dataset's pack are made and kept in the same way.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from api.thread_priority import give_way
from trainyard.errors import TooManyPictures

KEPT = 64  #: pictures, of some 30 kB each
KEPT_BYTES = 64 * 2**20
NICENESS = 5  #: pictures give way to predictions on the same cores, as training does
MAX_DRAWING = 64  #: pictures that are drawn or wait to be; beyond it the answer is 503


class Pictures:
    """The pictures of one process; belongs to its event loop."""

    def __init__(
        self, kept: int = KEPT, *, kept_bytes: int = KEPT_BYTES, threads: int = 1, max_drawing: int | None = None
    ) -> None:
        """Make it.

        Args:
            kept: the most pictures that are kept.
            kept_bytes: the most bytes that they have together.
            threads: that draw.
            max_drawing: the most pictures that are drawn or wait to be. None: no limit.
        """
        self._kept, self._kept_bytes, self._max_drawing = kept, kept_bytes, max_drawing
        self._num_bytes = 0
        self._drawn: OrderedDict[str, bytes] = OrderedDict()  #: the longest unused first
        self._drawing: dict[str, asyncio.Future[bytes]] = {}
        self._wanted: dict[str, int] = {}  #: clients that wait for a picture
        self._thread = ThreadPoolExecutor(
            threads, thread_name_prefix="pictures", initializer=give_way, initargs=(NICENESS,)
        )

    async def get(self, content: str, draw: Callable[[], bytes]) -> bytes:
        """Return a picture, which is drawn now if there is none with this content.

        Args:
            content: names what is shown; another one whenever the picture would be another.
            draw: draws it, in a thread of the pictures; not called once all who wanted it have left.

        Raises:
            TooManyPictures: too many others are being drawn.
        """
        if (picture := self._drawn.get(content)) is not None:
            self._drawn.move_to_end(content)
            return picture
        if content not in self._drawing:
            if self._max_drawing is not None and len(self._drawing) >= self._max_drawing:
                raise TooManyPictures(retry_after_s=1)
            self._drawing[content] = asyncio.get_running_loop().run_in_executor(self._thread, draw)
            self._drawing[content].add_done_callback(lambda done: self._keep(content, done))
        self._wanted[content] = self._wanted.get(content, 0) + 1
        drawing = self._drawing[content]
        try:
            return await asyncio.shield(drawing)
        finally:
            self._wanted[content] -= 1
            if not self._wanted[content]:
                del self._wanted[content]
                if not drawing.done():  # all who wanted it have left
                    del self._drawing[content]
                    drawing.cancel()

    def _keep(self, content: str, done: asyncio.Future[bytes]) -> None:
        if done.cancelled():
            return
        del self._drawing[content]
        if done.exception() is not None:
            return
        self._drawn[content] = done.result()
        self._num_bytes += len(done.result())
        while len(self._drawn) > self._kept or self._num_bytes > self._kept_bytes:
            self._num_bytes -= len(self._drawn.popitem(last=False)[1])

    def close(self) -> None:
        """End the threads. Pictures that are still waiting are not drawn."""
        self._thread.shutdown(wait=True, cancel_futures=True)
