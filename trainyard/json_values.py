"""Makes JSON values without NaN and infinities."""

from __future__ import annotations

import math
from typing import Any


def finite(value: Any) -> Any:
    """Return a JSON value with None in place of NaN and infinities, which neither JSON nor PostgreSQL accepts."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return value
