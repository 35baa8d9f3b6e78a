"""Writes texts so that no spreadsheet runs them as formulas. Torch-free."""

from __future__ import annotations

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the last are full-width


def disarm(text: str) -> str:
    """Return a text with an apostrophe in front, where a spreadsheet would take it for a formula."""
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text
