"""`/session`: a browser signs in with a key, and holds a cookie from then on."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Request, Response
from pydantic import BaseModel

from api.access.identity import identity_of
from api.access.sessions import SESSION_S, SETTINGS_KEY
from api.http import errors
from api.http.guarded_route import GuardedRoute
from api.schemas.base import DESCRIBED, STRICT, Time
from api.services import ServicesDep
from trainyard.access.scopes import Scope
from trainyard.errors import (
    BodyUnreadable,
    Conflict,
    CrossSiteRefused,
    DatabaseUnavailable,
    InvalidRequest,
    JsonInvalid,
    ServiceError,
    TooLarge,
)

router = APIRouter(prefix="/session", tags=["access"], route_class=GuardedRoute)
#: Signing in and out asks for no key.
open_router = APIRouter(prefix="/session", tags=["access"], route_class=GuardedRoute)


class SessionCreate(BaseModel):
    """A key to sign in with."""

    model_config = STRICT

    key: str
    """The key of the settings, or one that `POST /keys` made."""


class SessionRead(BaseModel):
    """Who a request acts for."""

    model_config = DESCRIBED

    owner: str
    """Whose jobs, datasets and checkpoints are seen."""
    key_prefix: str | None
    """The beginning of the key, as `GET /keys` shows it. Null: the key of the settings, or none is needed."""
    scopes: list[Scope]
    """What may be done: `read`, `train`, `predict`, `admin`."""
    expires_at: Time | None
    """When the session ends. Null: the key itself was sent, or none is needed."""


@open_router.post(
    "",
    status_code=204,
    summary="Sign in",
    response_class=Response,
    response_description="Signed in: `Set-Cookie` holds the session, for 12 hours.",
    responses=errors.responses(
        *(CrossSiteRefused, Conflict, InvalidRequest, JsonInvalid, BodyUnreadable, TooLarge, DatabaseUnavailable)
    ),
)
async def create_session(
    request: Request,
    services: ServicesDep,
    body: Annotated[SessionCreate, Body(openapi_examples={"key": {"value": {"key": "ty_…"}}})],
) -> Response:
    """Sign a browser in: from then on it sends a cookie, where a program sends its key with every request.

    Scripts can't read the cookie, and pages of other sites can't make the browser send it.
    """
    if not services.gate.needs_key:
        raise Conflict("this yard asks for no key, so there is nothing to sign in to: leave the key out")
    identity = await services.gate.identify_key(body.key)
    if isinstance(identity, ServiceError):
        raise identity
    cookies = await services.gate.load_cookies()
    response = Response(status_code=204, headers={"Cache-Control": "no-store"})
    value = cookies.begin(identity.key_prefix or SETTINGS_KEY)
    _set_cookie(request, response, cookies.name, value, max_age=SESSION_S)
    return response


@router.get("", summary="Who am I?", responses=errors.responses(DatabaseUnavailable))
async def get_session(request: Request) -> SessionRead:
    """Return who this request acts for, and what it may do. It works with a cookie and with a key."""
    identity = identity_of(request.scope)
    return SessionRead(
        owner=identity.owner,
        key_prefix=identity.key_prefix,
        scopes=sorted(identity.scopes),
        expires_at=identity.expires_at,
    )


@open_router.delete(
    "",
    status_code=204,
    summary="Sign out",
    response_class=Response,
    responses=errors.responses(CrossSiteRefused, DatabaseUnavailable),
)
async def delete_session(request: Request, services: ServicesDep) -> Response:
    """Sign the browser out: its cookie is removed. Harmless if it had none."""
    response = Response(status_code=204)
    if services.gate.needs_key:
        cookies = await services.gate.load_cookies()
        _set_cookie(request, response, cookies.name, "", max_age=0)
    return response


def _set_cookie(request: Request, response: Response, name: str, value: str, *, max_age: int) -> None:
    """Set a cookie without a path: the browser takes the folder of this address, with the prefix of a proxy in it."""
    is_encrypted = _is_encrypted(request)
    response.set_cookie(name, value, max_age=max_age, path=None, secure=is_encrypted, httponly=True, samesite="strict")


def _is_encrypted(request: Request) -> bool:
    """Whether the browser speaks https. A proxy in between may not say so, but the browser does, by `Origin`."""
    return request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")
