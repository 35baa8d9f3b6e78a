"""Why a key, or what it was to do, is refused. `trainyard.errors` has the tree of all refusals."""

from __future__ import annotations

from trainyard.errors import NotFound, ServiceError


class KeyNotFound(NotFound):
    """There is no such key. `GET /keys` lists them."""

    code = "key_not_found"


class ScopeMissing(ServiceError):
    """The key may not do this. `GET /session` lists its scopes; an administrator can make a key that has more."""

    status, type, code = 403, "forbidden", "scope_missing"
