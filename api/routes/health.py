"""For load balancers and monitoring: `/healthz`, `/readyz` and `/metrics`.

`/healthz`: the process is alive. `/readyz`: it can do its work. Neither asks for a key or reveals details.
"""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from alexnet_core.data.published.builtin import BUILTINS
from api.http import errors
from api.http.guarded_route import GuardedRoute
from api.schemas.base import DESCRIBED
from api.services import Services, ServicesDep
from trainyard.artifacts.datasets import register_builtins
from trainyard.build import build_id
from trainyard.database.schema import Standing, current_revision, describe, standing_of
from trainyard.errors import DatabaseUnavailable, StorageMismatch, StorageUnavailable

log = logging.getLogger(__name__)

StoreState = Literal["ok", "degraded", "failed"]

router = APIRouter(tags=["health"], route_class=GuardedRoute)
metrics_router = APIRouter(tags=["health"], route_class=GuardedRoute)  #: may ask for a key


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """What works and what does not. `queue` and `model` never make it not ready."""

    model_config = DESCRIBED

    status: Literal["ready", "not_ready"]
    database: Literal["ok", "read_only", "failed"]
    """`read_only`: it answers, but accepts no writes now."""
    migrations: Literal["ok", "behind", "ahead", "unknown"]
    """Whether the database's tables fit this release. `behind`: run `trainyard migrate`; `ahead`: a newer release made
    them, update this one."""
    detail: str | None
    """What is wrong with the tables, in a sentence; null: nothing, or unknown."""
    version: str
    """The build that answers."""
    storage: StoreState
    """`degraded`: the object store does not answer; requests that don't need it are served. `failed`: the data folder
    can't be written, or the store does not belong to this database."""
    storage_detail: str | None
    """What is wrong with the store, in a sentence; null: nothing."""
    draining: bool
    queue: Literal["ok", "degraded"]
    model: Literal["none", "loading", "ok"]


@router.get("/healthz", summary="Live?")
async def get_health() -> Health:
    """Tell whether the process answers."""
    return Health()


@router.get(
    "/readyz",
    summary="Ready?",
    responses={503: {"model": Readiness, "description": "Not ready; the body says why."}},
)
def get_readiness(response: Response, services: ServicesDep) -> Readiness:
    """Tell whether requests should be sent here."""
    readiness = look(services)
    if readiness.status != "ready":
        response.status_code = 503
        response.headers["Retry-After"] = "1"
    return readiness


@metrics_router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    response_description="Prometheus' text format, or OpenMetrics if `Accept` asks for it.",
    responses=errors.responses(success={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}),
)
def get_prometheus_metrics(request: Request, services: ServicesDep) -> Response:
    """Return what this API counted, and the figures of the whole yard.

    It needs no key if there is none, or if the setting `open_metrics` says so; the key may be `metrics_key`.
    """
    body, content_type = services.exposition.render(request.headers.get("accept", ""))
    return Response(body, headers={"Content-Type": content_type, "Cache-Control": "no-store"})


def look(services: Services) -> Readiness:
    """Look whether requests should be sent here."""
    database = _look_at_database(services)
    migrations = look_at_tables(services) if database != "failed" else None
    fits = migrations is not None and migrations.standing is Standing.OK
    storage, storage_detail = look_at_store(services) if fits else _look_at_folder(services)
    ready = database == "ok" and fits and storage != "failed" and not services.draining
    return Readiness(
        status="ready" if ready else "not_ready",
        database=database,
        migrations="unknown" if migrations is None else migrations.standing.value,
        detail=None if migrations is None or migrations.standing is Standing.OK else describe(migrations.revision),
        version=build_id(),
        storage=storage,
        storage_detail=storage_detail,
        draining=services.draining,
        queue="ok" if services.reconciler.relay.queue_is_up else "degraded",
        model=services.engine.model_state,
    )


def _look_at_database(services: Services) -> Literal["ok", "read_only", "failed"]:
    try:
        services.database.check_writes()
    except DatabaseUnavailable:
        try:
            services.database.ping()
        except DatabaseUnavailable:
            return "failed"
        return "read_only"
    return "ok"


@dataclass(frozen=True)
class _Tables:
    """What is known about the database's tables."""

    revision: str | None
    standing: Standing


def look_at_tables(services: Services) -> _Tables | None:
    """Return whether the tables fit this release, and register the built-in datasets if they do. None: unknown."""
    try:
        revision = current_revision(services.database)
        tables = _Tables(revision, standing_of(revision))
    except Exception:
        log.exception("the tables' revision could not be read")
        return None
    if tables.standing is Standing.OK and not services.builtins_known:
        try:
            register_builtins(services.database, {name: dataset.facts for name, dataset in BUILTINS.items()})
            services.builtins_known = True
        except DatabaseUnavailable:
            log.warning("the built-in datasets can't be registered now; trying again")
        except Exception:
            log.exception("the built-in datasets can't be registered; trying again")
    return tables


def look_at_store(services: Services) -> tuple[StoreState, str | None]:
    """Return the state of the store, and what is wrong with it."""
    state, detail = _look_at_folder(services)
    if state == "failed":
        return state, detail
    try:
        services.store.check()
    except StorageMismatch as exc:
        return "failed", str(exc)
    except StorageUnavailable as exc:
        return "failed" if services.storage.publishes_at_once else "degraded", str(exc)
    except DatabaseUnavailable:
        return state, detail
    return "ok", None


def _look_at_folder(services: Services) -> tuple[StoreState, str | None]:
    try:
        with tempfile.TemporaryFile(dir=services.settings.data_dir) as file:
            file.write(b"ready?")
            file.flush()
    except OSError as exc:
        return "failed", f"the data folder can't be written: {exc.strerror}"
    return "ok", None
