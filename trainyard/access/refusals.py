"""Why a key, or what it was to do, is refused: the part of the tree of `trainyard.errors` that is about keys.

ServiceError
├── ScopeMissing 403                    scope_missing
├── RateLimited 429                     rate_limited
└── NotFound
    └── KeyNotFound                     key_not_found
"""

from __future__ import annotations

from trainyard.errors import NotFound, ServiceError


class KeyNotFound(NotFound):
    """There is no such key. `GET /keys` lists them."""

    code = "key_not_found"


class ScopeMissing(ServiceError):
    """The key may not do this. `GET /session` lists its scopes; an administrator can make a key that has more."""

    status, type, code = 403, "forbidden", "scope_missing"


class RateLimited(ServiceError):
    """The key sent more requests than it may. Wait as long as `Retry-After` says."""

    status, type, code = 429, "rate_limit", "rate_limited"
