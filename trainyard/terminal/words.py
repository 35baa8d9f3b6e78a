"""How the commands write numbers, times and states."""

from __future__ import annotations

import math
from datetime import UTC, datetime

#: What a job, a validation or a prediction waits for, in words.
WAITS_FOR = {
    "no_live_worker": "waits for a worker: none is running",
    "no_worker_of_this_version": "waits for a worker of this version: all that run are of another",
    "retry_backoff": "failed, and is tried again soon",
    "disk_full": "the disk is full; it is tried again soon",
    "owner_limit": "waits: its owner has the allowed number of running jobs",
    "dataset": "waits until its dataset is checked",
    "upload": "waits for the rest of its upload",
    "a_free_slot": "waits for a free slot",
}

#: Colours of states; a state that is not here has none.
STYLES = {
    "queued": "cyan",
    "running": "blue",
    "validating": "blue",
    "uploading": "blue",
    "pausing": "yellow",
    "paused": "yellow",
    "cancelling": "yellow",
    "cancelled": "yellow",
    "draining": "yellow",
    "succeeded": "green",
    "ready": "green",
    "live": "green",
    "failed": "red",
    "rejected": "red",
    "lost": "red",
}


def say_waiting(code: str) -> str:
    """Return what something waits for; a code that is not known is told as it is."""
    return WAITS_FOR.get(code, f"waits for: {code}")


def say_percent(value: float | None) -> str:
    """Return a fraction in percent; nothing for None."""
    return "" if value is None else f"{value:.1%}"


def say_loss(value: float | None) -> str:
    """Return a loss with about four figures; nothing for None."""
    if value is None:
        return ""
    return f"{value:.3f}" if value >= 0.01 else f"{value:.2e}"


def say_count(value: float | None) -> str:
    """Return a whole number with separators; nothing for None."""
    return "" if value is None else f"{value:,.0f}"


def say_bytes(value: float | None) -> str:
    """Return a size in a unit that fits; nothing for None."""
    if value is None:
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"


def say_duration(seconds: float | None) -> str:
    """Return a duration as `4.2 s`, `3:07` (minutes) or `2:03:07`; nothing for None."""
    if seconds is None or not math.isfinite(seconds):
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def read_time(value: str | datetime | None) -> datetime | None:
    """Return a time of an answer as a datetime."""
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def say_ago(value: str | datetime | None, now: datetime | None = None) -> str:
    """Return how long ago a time was, such as `5 min ago`; nothing for None."""
    at = read_time(value)
    if at is None:
        return ""
    seconds = max(0.0, ((now or datetime.now(UTC)) - at).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def say_between(start: str | datetime | None, end: str | datetime | None) -> str:
    """Return the duration between two times; nothing if one is missing."""
    began, ended = read_time(start), read_time(end)
    return "" if began is None or ended is None else say_duration((ended - began).total_seconds())


def say_state(row_state: str) -> str:
    """Return a state with its colour, as rich's markup."""
    style = STYLES.get(row_state)
    return f"[{style}]{row_state}[/]" if style else row_state
