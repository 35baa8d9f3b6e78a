"""`/keys`: an administrator makes and revokes API keys."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Body, Path, Response
from pydantic import BaseModel, Field

from api.http import errors
from api.http.guarded_route import GuardedRoute
from api.routes.queries import AfterQuery, LimitQuery
from api.schemas.base import DESCRIBED, STRICT, ListRead, Name, RowView, Time
from api.services import CallerDep, ServicesDep
from trainyard.access import keys
from trainyard.access.refusals import KeyNotFound
from trainyard.access.scopes import Scope
from trainyard.errors import (
    BodyUnreadable,
    CrossSiteRefused,
    DatabaseFull,
    DatabaseUnavailable,
    InvalidRequest,
    JsonInvalid,
    TooLarge,
)

router = APIRouter(prefix="/keys", tags=["access"], route_class=GuardedRoute)

KeyPath = Annotated[str, Path(description="The key's id, such as `key_01m867mjxcwzg9jmycd4rmka44`.")]
OWNER = r"^[a-z0-9][a-z0-9._-]{0,63}$"


class KeyCreate(BaseModel):
    """A key to be made."""

    model_config = STRICT

    owner: str | None = Field(None, pattern=OWNER)
    """Who the key acts for: 1 to 64 of `a-z 0-9 . _ -`, beginning with a letter or digit. Default: your own owner."""
    name: Name | None = None
    """What it is for, such as `laptop of Ada`."""
    scopes: list[Annotated[Scope, Field(strict=False)]] = Field(
        [Scope.READ, Scope.TRAIN, Scope.PREDICT], min_length=1, max_length=len(Scope)
    )
    """What it may do: `read`, `train`, `predict`, `admin`. Default: all but `admin`."""


class KeyRead(BaseModel):
    """A key as it is listed; its text can't be read again."""

    model_config = DESCRIBED

    id: str
    object: Literal["key"] = "key"
    name: str | None
    """What it is for."""
    owner: str
    """Who it acts for."""
    prefix: str
    """The beginning of its text, by which its holder recognises it."""
    scopes: list[Scope]
    """What it may do."""
    created_at: Time
    last_used_at: Time | None
    """When it was used last, to about a minute. Null: never."""


class NewKeyRead(KeyRead):
    """A key that has just been made."""

    key: str
    """The text to send as `Authorization: Bearer <key>`. It is shown only now."""


@router.post(
    "",
    status_code=201,
    summary="Make a key",
    response_description="Made. `key` is shown only now; a digest of it is kept.",
    responses=errors.responses(
        *(CrossSiteRefused, InvalidRequest, JsonInvalid, BodyUnreadable, TooLarge, DatabaseUnavailable, DatabaseFull)
    ),
)
def create_key(
    response: Response,
    services: ServicesDep,
    caller: CallerDep,
    body: Annotated[
        KeyCreate,
        Body(
            openapi_examples={
                "colleague": {"value": {"owner": "ada", "name": "laptop of Ada"}},
                "camera": {"value": {"name": "camera at the gate", "scopes": ["predict"]}},
            }
        ),
    ],
) -> NewKeyRead:
    """Make a key for an owner. Whoever has it sees only that owner's jobs, datasets, checkpoints and aliases."""
    response.headers["Cache-Control"] = "no-store"
    with services.database.writing() as session:
        row, text = keys.create_key(session, owner=body.owner or caller, scopes=body.scopes, name=body.name)
        return NewKeyRead.model_validate(RowView(row, key=text))


@router.get("", summary="List keys", responses=errors.responses(InvalidRequest, DatabaseUnavailable))
def list_keys(services: ServicesDep, limit: LimitQuery = 20, after: AfterQuery = None) -> ListRead[KeyRead]:
    """Return a page of all owners' keys, newest first. The key of the settings is not among them."""
    with services.database.reading() as session:
        page = keys.list_keys(session, limit=limit, after=after)
        return ListRead[KeyRead].of([KeyRead.model_validate(row) for row in page.items], has_more=page.has_more)


@router.delete(
    "/{key_id}",
    status_code=204,
    summary="Revoke a key",
    response_class=Response,
    responses=errors.responses(CrossSiteRefused, KeyNotFound, DatabaseUnavailable),
)
def delete_key(key_id: KeyPath, services: ServicesDep) -> Response:
    """Revoke a key: within a second every process refuses it and the sessions that it began. Its owner's work stays."""
    with services.database.writing() as session:
        prefix = keys.revoke_key(session, key_id)
    services.gate.keyring.forget(prefix)
    return Response(status_code=204)
