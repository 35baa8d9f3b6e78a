"""The tables of access: API keys, and the secret of the yard's sessions. `tables` has the others."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from trainyard.database.base import Base


class ApiKey(Base):
    """A key that was made by an administrator. Its text is not stored: only a digest of it, and its beginning."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    prefix: Mapped[str] = mapped_column(unique=True)  #: the beginning of the key, by which it is found; not secret
    digest: Mapped[str]  #: sha256 of the whole key, in hex
    owner: Mapped[str]
    name: Mapped[str | None]  #: what it is for, in its maker's words
    scopes: Mapped[list[Any]]  #: values of `trainyard.access.scopes.Scope`, sorted
    created_at: Mapped[float]
    last_used_at: Mapped[float | None]  #: to about a minute

    __table_args__ = (Index(None, "created_at", "id"),)


class YardSecret(Base):
    """The part of the session secret that only this database has; one row, which its migration made at random."""

    __tablename__ = "yard_secrets"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  #: always 1
    secret: Mapped[str]
