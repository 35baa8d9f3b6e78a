"""What a key may do. A scope stands for a group of routes; `api.access.route_scopes` says which."""

from __future__ import annotations

from enum import StrEnum


class Scope(StrEnum):
    """One right of a key. No scope contains another, but for `admin`, which contains all."""

    READ = "read"  #: look at the owner's jobs, datasets, checkpoints, aliases and predictions
    TRAIN = "train"  #: make, change and delete them
    PREDICT = "predict"  #: have images classified and explained
    ADMIN = "admin"  #: all of these, and make and revoke keys, and read the metrics of the whole yard


ALL_SCOPES = frozenset(Scope)
