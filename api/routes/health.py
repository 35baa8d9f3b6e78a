"""`/healthz`: the process lives. `/readyz`: it can do its work. Neither asks for a key, neither tells details."""

from __future__ import annotations

import logging
import tempfile
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel
from starlette.responses import RedirectResponse

from alexnet_core.data.published.builtin import BUILTINS
from api.schemas.base import DESCRIBED
from api.services import Services, ServicesDep
from trainyard.artifacts.datasets import register_builtins
from trainyard.database.schema import current_revision
from trainyard.errors import DatabaseUnavailable

log = logging.getLogger(__name__)

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """What works and what does not. `queue` and `model` never make it unready."""

    model_config = DESCRIBED

    status: Literal["ready", "not_ready"]
    database: Literal["ok", "read_only", "failed"]
    """`read_only`: it answers, but takes no writes, or not now."""
    migrations: Literal["ok", "behind", "unknown"]
    storage: Literal["ok", "failed"]
    draining: bool
    queue: Literal["ok", "degraded"]
    model: Literal["none", "loading", "ok"]


@router.get("/", include_in_schema=False)
async def redirect_to_docs() -> RedirectResponse:
    """The way to the documentation, until there is a dashboard."""
    return RedirectResponse("/docs")


@router.get("/healthz", summary="Live?")
async def get_health() -> Health:
    """Whether the process answers."""
    return Health()


@router.get(
    "/readyz",
    summary="Ready?",
    responses={503: {"model": Readiness, "description": "Not ready; the body says why."}},
)
def get_readiness(response: Response, services: ServicesDep) -> Readiness:
    """Whether requests should be sent here."""
    readiness = _look(services)
    if readiness.status != "ready":
        response.status_code = 503
        response.headers["Retry-After"] = "1"
    return readiness


def _look(services: Services) -> Readiness:
    database = _look_at_database(services)
    answers = database != "failed"
    up_to_date = answers and register_when_migrated(services)
    writable = _is_writable(services)
    ready = database == "ok" and up_to_date and writable and not services.draining
    return Readiness(
        status="ready" if ready else "not_ready",
        database=database,
        migrations=("ok" if up_to_date else "behind") if answers else "unknown",
        storage="ok" if writable else "failed",
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


def register_when_migrated(services: Services) -> bool:
    """Whether the tables are at the newest revision; once they are, the built-in datasets are entered."""
    try:
        if current_revision(services.database) != services.revision:
            return False
        if not services.builtins_known:
            register_builtins(services.database, {name: dataset.facts for name, dataset in BUILTINS.items()})
            services.builtins_known = True
    except Exception:
        log.exception("the tables' revision can't be told")
        return False
    return True


def _is_writable(services: Services) -> bool:
    try:
        with tempfile.TemporaryFile(dir=services.settings.data_dir) as file:
            file.write(b"ready?")
            file.flush()
    except OSError:
        return False
    return True
