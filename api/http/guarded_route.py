"""A route that answers only those who have its scope. It is asked before the body is read."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.routing import BaseRoute, Route

from api.access.identity import identity_of
from api.access.route_scopes import Needed, scopes_of
from trainyard.access.refusals import ScopeMissing

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Guarded:
    """A route that checks the scope of each request."""


class GuardedRoute(APIRoute, Guarded):
    """Refuses a request whose key lacks the scopes that `route_scopes` has for this route."""

    def get_route_handler(self) -> Handler:
        """See FastAPI."""
        needed = {method: scopes_of(method, self.path) for method in self.methods or ()}
        handle = super().get_route_handler()

        async def handle_if_allowed(request: Request) -> Response:
            check_scope(request, needed[request.method])
            return await handle(request)

        return handle_if_allowed


def check_scope(request: Request, needed: Needed | None) -> None:
    """Refuse a request whose key has none of the scopes.

    Raises:
        ScopeMissing: it has none.
    """
    if needed is None:
        return
    identity = identity_of(request.scope)
    if not identity.may_any(needed):
        wanted, has = (" or ".join(f"`{scope}`" for scope in sorted(scopes)) for scopes in (needed, identity.scopes))
        raise ScopeMissing(
            f"{request.method} here needs a key with the scope {wanted}; this one has {has or 'none'}: "
            "ask an administrator for another"
        )


def check_all_guarded(routes: Iterable[BaseRoute], is_open: Callable[[str], bool]) -> None:
    """Make sure that each route of an app is guarded, or open to everybody.

    Raises:
        TypeError: one is neither; the message says what to do.
    """
    for context in iter_route_contexts(list(routes)):
        route = context.original_route
        if not isinstance(route, Guarded) and not is_open(route.path if isinstance(route, Route) else ""):
            raise TypeError(f"{context.path} is not guarded: give its router `route_class=GuardedRoute`")
