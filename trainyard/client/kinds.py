"""Types and constants that several modules of the client share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from trainyard.states import DatasetState, JobState

Json: TypeAlias = dict[str, Any]
OnProgress: TypeAlias = Callable[[int, int], None]
"""Called with the bytes that have arrived and those of all; 0 for all if that is not known."""

FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 30.0  #: between two tries, where the yard does not say how long
FINAL_STATES = frozenset(state for state in JobState if state.is_final)
SETTLED = frozenset({DatasetState.REGISTERED, DatasetState.READY, DatasetState.REJECTED})
