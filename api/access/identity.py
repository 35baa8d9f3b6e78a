"""Who a request acts for, and where a request's scope says so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from starlette.types import Scope as RequestScope

from trainyard.access.scopes import ALL_SCOPES, Scope
from trainyard.database.base import LOCAL_OWNER

IDENTITY = "trainyard.identity"  #: key in a request's scope: its `Identity`, once it was let in
REFUSAL = "trainyard.refusal"  #: key in a request's scope: the `ServiceError` why the server did not let it in


@dataclass(frozen=True)
class Identity:
    """An owner, and what may be done in that name."""

    owner: str
    scopes: frozenset[Scope]
    key_prefix: str | None = None  #: None: the key of the settings, or none at all
    expires_at: float | None = None  #: of a session, in seconds since 1970; None: a key was sent, or none is needed

    @property
    def can_end(self) -> bool:
        """Whether a request that goes on for long may lose it meanwhile."""
        return self.key_prefix is not None or self.expires_at is not None

    def may_any(self, scopes: Iterable[Scope]) -> bool:
        """Whether one of the scopes was given to it; `admin` stands for each."""
        return Scope.ADMIN in self.scopes or not self.scopes.isdisjoint(scopes)


ADMINISTRATOR = Identity(LOCAL_OWNER, ALL_SCOPES)  #: has the key of the settings, or the yard asks for none
STRANGER = Identity("", frozenset())  #: of a route that is open to everybody, and needs no owner


def identity_of(request_scope: RequestScope) -> Identity:
    """Return who a request that was let in acts for."""
    identity: Identity = request_scope[IDENTITY]  # a missing one must end in an error, never in somebody's name
    return identity
