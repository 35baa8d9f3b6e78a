"""Writes log lines: one JSON object in a line, with the id of the request that caused it."""

from __future__ import annotations

import json
import logging
import math
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

_NOISY = ("httpx", "httpcore", "alembic", "kombu", "celery.redirected", "multipart", "PIL")
_UNTOLD = frozenset({"DecompressionBombWarning"})  # Pillow's: whoever sent the image is told, by its refusal
_OWN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

REPEAT_S = 10.0  #: that the same warning is not written again
_MAX_REMEMBERED = 256  # warnings


class JsonLines(logging.Formatter):
    """Formats a log record as one line of JSON; fields given by `extra=` become keys."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record, without a line break."""
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (current := request_id.get()) is not None:
            line["request_id"] = current
        line |= _extra_fields(record)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class Repeats(logging.Filter):
    """Lets the same warning or error through once in `REPEAT_S`, then with the number of those that were left out.

    What waits for a database or a store warns at each of its tries, several times a second. What a request caused is
    never left out.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock, self._lock = clock, threading.Lock()
        self._told: dict[tuple[str, str, str], tuple[float, int]] = {}  # when it was written, and how many followed

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is written; see `logging.Filter`."""
        if record.levelno < logging.WARNING or request_id.get() is not None:
            return True
        exception = record.exc_info[1] if record.exc_info else None
        warning = (record.name, record.getMessage(), repr((exception, _extra_fields(record))))
        with self._lock:
            now = self._clock()
            told_at, left_out = self._told.pop(warning, (-math.inf, 0))
            is_due = now - told_at >= REPEAT_S
            self._told[warning] = (now, 0) if is_due else (told_at, left_out + 1)
            if len(self._told) > _MAX_REMEMBERED:
                del self._told[next(iter(self._told))]
        if is_due and left_out:
            record.repeats = left_out
        return is_due


def _extra_fields(record: logging.LogRecord) -> dict[str, object]:
    """Return what `extra=` gave a record."""
    return {key: value for key, value in vars(record).items() if key not in _OWN_FIELDS}


def configure(level: str) -> None:
    """Write every log line and every warning of this process to stderr as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    handler.addFilter(Repeats())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    warnings.showwarning = _log_warning
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Log a warning; `warnings` would print lines that are not JSON."""
    if category.__name__ not in _UNTOLD:
        place = f"{filename}:{lineno}"
        logging.getLogger("warnings").warning("%s", message, extra={"category": category.__name__, "place": place})
