"""How files and folders are named that more than one package knows. Torch-free."""

from __future__ import annotations

from enum import StrEnum


class CheckpointKind(StrEnum):
    """Why a checkpoint was made."""

    EPOCH = "epoch"  #: at an epoch's end: has metrics, is published and served
    RECOVERY = "recovery"  #: in mid-epoch, to go on from; gone once a newer one of either kind is committed
