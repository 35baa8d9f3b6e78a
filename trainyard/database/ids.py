"""Ids such as `job_01jd…`: a prefix and a tail that sorts by time (48 bits of milliseconds, 80 random bits)."""

from __future__ import annotations

import re
import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_SHIFTS = range(120, -1, -10)  # of 13 pairs: 26 characters, of which the first has the 3 bits that are left of 128
_ID = re.compile(r"(job|val|pred|ds|upl|ckpt|wrk|req)_[0-9a-z_-]{1,64}")


def new_id(prefix: str) -> str:
    """Return a new id. Ids of later milliseconds sort after it.

    Args:
        prefix: `job`, `val` (a validation), `pred` (a prediction), `ds`, `upl` (an upload), `ckpt`, `wrk`, `req` or
            `store`.
    """
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return f"{prefix}_{''.join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])}"


def has_form(text: str, prefix: str) -> bool:
    """Whether a text has the form of an id with this prefix; the thing need not exist."""
    return text.startswith(prefix + "_") and _ID.fullmatch(text) is not None


def is_like_an_id(text: str) -> bool:
    """Whether a text has the form of an id with any prefix."""
    return _ID.fullmatch(text) is not None
