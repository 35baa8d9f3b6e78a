"""Writes log lines: one JSON object in a line, with the id of the request that caused it."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

_NOISY = ("httpx", "httpcore", "alembic", "kombu", "celery.redirected", "multipart", "PIL")
_UNTOLD = frozenset({"DecompressionBombWarning"})  # Pillow's: whoever sent the image is told, by its refusal
_OWN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


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
        line |= {key: value for key, value in vars(record).items() if key not in _OWN_FIELDS}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(level: str) -> None:
    """Write every log line and every warning of this process to stderr as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
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
