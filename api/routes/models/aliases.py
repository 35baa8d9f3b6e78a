"""`/aliases`: names for checkpoints that can be moved, with a canary, a shadow and a history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

import anyio.to_thread
from fastapi import APIRouter, Body, Path, Query, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.http import errors
from api.http.guarded_route import GuardedRoute
from api.routes.queries import LimitQuery
from api.schemas.aliases import AliasPut, AliasRead, AliasRollback, MoveRead
from api.schemas.base import ListRead
from api.services import CallerDep, Services, ServicesDep
from trainyard.artifacts import aliases
from trainyard.artifacts.naming import alias_moves
from trainyard.artifacts.naming.alias_counts import read_counts
from trainyard.artifacts.naming.alias_moves import Mover
from trainyard.database.tables import Alias, Checkpoint
from trainyard.errors import (
    BodyUnreadable,
    CheckpointNotFound,
    CheckpointPruned,
    Conflict,
    DatabaseUnavailable,
    InvalidRequest,
    JobNotFound,
    JsonInvalid,
    ModelLoading,
    NoCheckpoint,
    NoCheckpointOfJob,
    StorageUnavailable,
    TooLarge,
)
from trainyard.logs import request_id
from trainyard.serving_errors import AliasMoved, AliasNotFound, CheckpointUnusable, NothingToRollBackTo

router = APIRouter(prefix="/aliases", tags=["aliases"], route_class=GuardedRoute)

T = TypeVar("T")

MAX_TRIES = 3  #: of a move that another one overtook

NamePath = Annotated[str, Path(description="The alias's name, such as `production`.")]
PutBody = Annotated[
    AliasPut,
    Body(
        openapi_examples={
            "move": {"summary": "Move it", "value": {"checkpoint": "ckpt_01m867nfjbcxgh62576cf45x6p"}},
            "canary": {
                "summary": "Try another checkpoint with a tenth of the requests",
                "value": {
                    "checkpoint": "ckpt_01m867nfjbcxgh62576cf45x6p",
                    "canary": {"checkpoint": "ckpt_01m86wcxe4fn3ft327pn3qwx4x", "share": 0.1},
                },
            },
            "shadow": {
                "summary": "Compare another checkpoint",
                "value": {
                    "checkpoint": "ckpt_01m867nfjbcxgh62576cf45x6p",
                    "shadow": "ckpt_01m86wcxe4fn3ft327pn3qwx4x",
                },
            },
        }
    ),
]
_UNDO = AliasRollback(version=None)
_NOT_LOADED = (CheckpointNotFound, CheckpointPruned, CheckpointUnusable, ModelLoading, StorageUnavailable)
_BODY = (InvalidRequest, JsonInvalid, BodyUnreadable, TooLarge)


@router.get("", summary="List aliases", responses=errors.responses(InvalidRequest, DatabaseUnavailable))
def list_aliases(
    services: ServicesDep,
    caller: CallerDep,
    limit: LimitQuery = 20,
    after: Annotated[
        str | None, Query(pattern=r"^[a-z0-9_-]{1,63}$", description="`last_id` of the previous page: a name.")
    ] = None,
) -> ListRead[AliasRead]:
    """Return a page of your aliases by name. `latest`, which moves by itself, is not among them."""
    with services.database.reading() as session:
        page = aliases.list_aliases(session, caller, limit=limit, after=after)
        return ListRead[AliasRead].of(_describe(session, caller, page.items), has_more=page.has_more, key="name")


@router.get("/{name}", summary="Get an alias", responses=errors.responses(AliasNotFound, DatabaseUnavailable))
def get_alias(name: NamePath, services: ServicesDep, caller: CallerDep) -> AliasRead:
    """Return what an alias names, and what each of its sides did since its last move."""
    with services.database.reading() as session:
        return _describe(session, caller, [aliases.get_alias(session, caller, name)])[0]


@router.put(
    "/{name}",
    summary="Make or move an alias",
    response_description="The alias. From now on it is answered as it says.",
    responses=errors.responses(
        *(JobNotFound, AliasNotFound, *_NOT_LOADED, NoCheckpointOfJob, NoCheckpoint, Conflict, AliasMoved, *_BODY),
        DatabaseUnavailable,
        success={201: {"model": AliasRead, "description": "The alias was made."}},
    ),
)
async def put_alias(
    name: NamePath, body: PutBody, response: Response, services: ServicesDep, caller: CallerDep
) -> AliasRead:
    """Let a name stand for a checkpoint, as `POST /predict?model=<name>` uses it. Repeating it changes nothing.

    The checkpoints are loaded, verified and tried out first. If one of them can't answer, nothing is moved. Requests
    that are being answered finish on the checkpoint that they began with.
    """
    mover = Mover(caller, request_id.get())
    canary = None if body.canary is None else (body.canary.checkpoint, body.canary.share)

    def resolve(session: Session) -> alias_moves.Target:
        aliases.check_alias_name(name)
        return alias_moves.resolve_target(
            session, caller, checkpoint=body.checkpoint, canary=canary, shadow=body.shadow
        )

    target = await _reading(services, resolve)
    await services.engine.warm(caller, target.by_field)

    def move(session: Session) -> tuple[Alias, bool]:
        is_new = session.get(Alias, (caller, name)) is None
        return alias_moves.move_alias(session, mover, name, target), is_new

    moved, is_new = await _writing(services, move)
    if is_new:
        response.status_code = 201
    return await _followed(services, caller, moved)


@router.delete(
    "/{name}",
    status_code=204,
    summary="Delete an alias",
    response_description="It is gone. Its history stays.",
    responses=errors.responses(AliasNotFound, AliasMoved, DatabaseUnavailable),
)
async def delete_alias(name: NamePath, services: ServicesDep, caller: CallerDep) -> None:
    """Remove an alias. Its checkpoints stay as their jobs' retention says."""
    mover = Mover(caller, request_id.get())
    await _writing(services, lambda session: alias_moves.delete_alias(session, mover, name))
    await services.engine.follow_alias(caller, name, None)


@router.get(
    "/{name}/history",
    summary="List the moves of an alias",
    responses=errors.responses(AliasNotFound, InvalidRequest, DatabaseUnavailable),
)
def list_moves(
    name: NamePath,
    services: ServicesDep,
    caller: CallerDep,
    limit: LimitQuery = 20,
    after: Annotated[
        int | None, Query(ge=1, le=2**53, description="`last_id` of the previous page: a version.")
    ] = None,
) -> ListRead[MoveRead]:
    """Return who moved an alias to what, and when, newest first; also of an alias that was deleted."""
    with services.database.reading() as session:
        page = aliases.list_moves(session, caller, name, limit=limit, before=after)
    moves = [MoveRead.model_validate(row) for row in page.items]
    return ListRead[MoveRead].of(moves, has_more=page.has_more, key="version")


@router.post(
    "/{name}/rollback",
    summary="Roll an alias back",
    response_description="The alias. From now on it is answered as it says.",
    responses=errors.responses(
        AliasNotFound, *_NOT_LOADED, NothingToRollBackTo, AliasMoved, *_BODY, DatabaseUnavailable
    ),
)
async def roll_back_alias(
    name: NamePath, services: ServicesDep, caller: CallerDep, body: AliasRollback = _UNDO
) -> AliasRead:
    """End the canary and the shadow; an alias without them goes back to the checkpoint that it named before.

    It is a move like any other: the checkpoint is loaded, verified and tried out first. A second rollback goes further
    back. With `version`, the checkpoint of that move answers again.
    """
    mover, version = Mover(caller, request_id.get()), body.version
    target, move = await _reading(services, lambda session: alias_moves.find_rollback(session, caller, name, version))
    await services.engine.warm(caller, target.by_field)
    moved = await _writing(services, lambda session: alias_moves.roll_back(session, mover, name, target, move))
    return await _followed(services, caller, moved)


async def _followed(services: Services, caller: str, moved: Alias) -> AliasRead:
    """Return an alias that was moved, once the engine answers so."""
    await services.engine.follow_alias(caller, moved.name, moved.version)
    described = await _reading(services, lambda session: _describe(session, caller, [moved]))
    return described[0]


async def _reading(services: Services, work: Callable[[Session], T]) -> T:
    def read() -> T:
        with services.database.reading() as session:
            return work(session)

    return await anyio.to_thread.run_sync(read)


async def _writing(services: Services, work: Callable[[Session], T]) -> T:
    """Do work in a transaction, and do it again if somebody else moved the same alias at that moment."""

    def write() -> T:
        with services.database.writing() as session:
            return work(session)

    for _ in range(MAX_TRIES - 1):
        try:
            return await anyio.to_thread.run_sync(write)
        except AliasMoved:
            continue
    return await anyio.to_thread.run_sync(write)


def _describe(session: Session, caller: str, rows: Sequence[Alias]) -> list[AliasRead]:
    ids = {it for row in rows for it in (row.checkpoint_id, row.canary_id, row.shadow_id) if it is not None}
    named = {row.id: row for row in session.scalars(select(Checkpoint).where(Checkpoint.id.in_(ids)))}
    counts = read_counts(session, caller, [(row.name, row.version) for row in rows])
    return [AliasRead.of(row, named, counts[row.name, row.version]) for row in rows]
