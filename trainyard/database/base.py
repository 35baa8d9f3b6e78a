"""What the tables share: the declarative base, and the types of their columns."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, Enum, Float, Integer, MetaData, String
from sqlalchemy.orm import DeclarativeBase

from alexnet_core.layout import CheckpointKind
from trainyard.states import (
    AliasAction,
    CheckpointStatus,
    DatasetState,
    Desired,
    EventType,
    JobState,
    MetricKind,
    ShownState,
    Side,
    UploadState,
    WorkKind,
    YardEventKind,
)

LOCAL_OWNER = "local"

_NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
_STORED = (
    *(WorkKind, JobState, Desired, ShownState, EventType, MetricKind),
    *(CheckpointKind, CheckpointStatus, DatasetState, UploadState, AliasAction, Side, YardEventKind),
)
ROW_NUMBER = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up by itself only on INTEGER


def _as_text(members: type[StrEnum]) -> Enum:
    """A text column for an enum's values, which refuses any other value when it is written or read."""
    values = [member.value for member in members]
    return Enum(members, values_callable=lambda _: values, native_enum=False, length=255)


class Base(DeclarativeBase):
    """The base of all tables."""

    metadata = MetaData(naming_convention=_NAMING)
    type_annotation_map = {
        dict[str, Any]: JSON(none_as_null=True),
        list[Any]: JSON(none_as_null=True),
        str: String(255),
        float: Float(53),
    } | {members: _as_text(members) for members in _STORED}
