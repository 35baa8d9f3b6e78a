"""Idempotency keys: the same request sent twice makes one job. The key is written in the job's own transaction."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from trainyard.database.connection import now
from trainyard.database.tables import IdempotencyKey
from trainyard.errors import IdempotencyConflict

KEPT_S = 24 * 3600


def fingerprint(content: dict[str, Any]) -> str:
    """Compute a request's identity from its content, whatever the order of its fields."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def find_job_id(session: Session, owner: str, route: str, key: str, content: dict[str, Any]) -> str | None:
    """Return the job that this key created. None: the key is new.

    Raises:
        IdempotencyConflict: it made one from another content.
    """
    row = session.scalars(
        select(IdempotencyKey).where(
            IdempotencyKey.owner == owner,
            IdempotencyKey.route == route,
            IdempotencyKey.key == key,
            IdempotencyKey.created_at > now() - KEPT_S,
        )
    ).one_or_none()
    if row is None:
        return None
    if row.fingerprint != fingerprint(content):
        raise IdempotencyConflict(
            f"Idempotency-Key {key!r} was used with another body: use a new key for a new request",
            param="Idempotency-Key",
        )
    return row.job_id


def remember(session: Session, owner: str, route: str, key: str, content: dict[str, Any], job_id: str) -> None:
    """Record that a key belongs to the job of this transaction.

    Raises:
        sqlalchemy.exc.IntegrityError: another request with this key was committed in between: look again.
    """
    session.execute(
        delete(IdempotencyKey).where(
            IdempotencyKey.owner == owner,
            IdempotencyKey.route == route,
            IdempotencyKey.key == key,
            IdempotencyKey.created_at <= now() - KEPT_S,
        )
    )
    session.add(
        IdempotencyKey(
            owner=owner, route=route, key=key, fingerprint=fingerprint(content), job_id=job_id, created_at=now()
        )
    )
    session.flush()


def forget_expired(session: Session) -> None:
    """Remove the keys that are older than a day."""
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at <= now() - KEPT_S))
