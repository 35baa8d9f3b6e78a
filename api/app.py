"""Builds the FastAPI app, in one place. `python -m api` serves it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from typing import TypedDict

import anyio.to_thread
from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import APIRoute
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from api.access.gate import Gate
from api.access.rate_limit import RateLimiter, build_rate_limiter
from api.access.security_headers import SecurityHeaders
from api.http import documentation, errors, page
from api.http.compression import Compression
from api.http.guarded_route import check_all_guarded
from api.http.middleware import (
    Authentication,
    BodyLimit,
    HeadAsGet,
    LastResort,
    RequestId,
    is_open,
)
from api.http.resumable import Resumable
from api.http.sites import SiteGuard
from api.http.streamed_bodies import FORM_BYTES
from api.observability.exposition import Exposition
from api.observability.metrics import Metrics
from api.observability.process_files import ProcessRole, announce
from api.observability.requests import CountRequests
from api.observability.traces import TraceRequests
from api.observability.yard_collector import YardCollector
from api.routes import checkpoints as routes_checkpoints
from api.routes import dataset_bodies as routes_dataset_bodies
from api.routes import dataset_exports as routes_dataset_exports
from api.routes import dataset_images as routes_dataset_images
from api.routes import datasets as routes_datasets
from api.routes import events as routes_events
from api.routes import health as routes_health
from api.routes import job_actions as routes_job_actions
from api.routes import jobs as routes_jobs
from api.routes import predictions as routes_predictions
from api.routes import quick_predictions as routes_quick_predictions
from api.routes import recipes as routes_recipes
from api.routes import uploads as routes_uploads
from api.routes import workers as routes_workers
from api.routes.access import keys as routes_keys
from api.routes.access import session as routes_session
from api.routes.access import yard as routes_yard
from api.routes.bulk import predictions_of_many as routes_predictions_of_many
from api.routes.fine_tuning import fine_tuning_jobs as routes_fine_tuning
from api.routes.fine_tuning import openai_files as routes_openai_files
from api.routes.fine_tuning import openai_models as routes_openai_models
from api.routes.insight import checkpoint_insight as routes_checkpoint_insight
from api.routes.insight import evaluations as routes_evaluations
from api.routes.insight import explanations as routes_explanations
from api.routes.insight import similar_images as routes_similar_images
from api.routes.measurements import curves as routes_curves
from api.routes.measurements import logs as routes_logs
from api.routes.measurements import metrics as routes_metrics
from api.routes.models import aliases as routes_aliases
from api.routes.models import open_inference as routes_open_inference
from api.services import Services
from api.serving.engine import Engine
from api.serving.interface import ServingEngine
from api.serving.runtime import Runtime, build_runtime
from trainyard import __version__, tracing
from trainyard.database.connection import Database
from trainyard.scheduling.queue import CeleryWaker, SilentWaker, Waker
from trainyard.settings import Settings
from trainyard.storage.opening import open_storage
from trainyard.upkeep.reconciler import Reconciler


class State(TypedDict):
    """What the lifespan hands to every request."""

    services: Services


def create_app(
    settings: Settings,
    *,
    database: Database | None = None,
    waker: Waker | None = None,
    runtime: Runtime | None = None,
    engine: ServingEngine | None = None,
) -> FastAPI:
    """Build the app on a yard's database.

    Args:
        settings: where everything is.
        database: already open; None: the one that the settings name, closed at the end.
        waker: None: Celery's if there is a queue, else one that wakes nobody.
        runtime: what runs models in this process; None: OpenVINO.
        engine: what answers predictions, in another process; None: one in this process.
    """
    metrics, gate, limiter = Metrics(), Gate(settings, is_open), build_rate_limiter(settings)
    app = documentation.DocumentedApp(
        title="Trainyard",
        summary="Training-as-a-service for AlexNet",
        description=documentation.DESCRIPTION,
        openapi_tags=documentation.TAGS,
        version=__version__,
        lifespan=_lifespan(settings, gate, limiter, metrics, database, waker, runtime, engine),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
        routes=[
            routes_predictions.quick_route,
            *page.build_router().routes,
            *_build_routes(settings.admin_key is not None, settings.open_metrics),
        ],
        middleware=[
            Middleware(CountRequests, metrics=metrics),
            Middleware(TraceRequests),
            Middleware(RequestId),
            Middleware(SecurityHeaders),
            Middleware(Resumable),
            Middleware(LastResort),
            Middleware(SiteGuard, settings=settings),
            Middleware(Authentication, gate=gate),
            Middleware(
                BodyLimit,
                default=settings.max_body_bytes,
                by_path=dict.fromkeys(("/predict", "/explain", "/activations", "/similar"), settings.max_upload_bytes),
                streamed=settings.max_dataset_upload_bytes + FORM_BYTES,
            ),
            Middleware(HeadAsGet),
            Middleware(Compression),
        ],
    )
    app.state.gate, app.state.limiter = gate, limiter  # for the server, which asks them before the app
    app.state.answerer = routes_quick_predictions.QuickPredictions(settings, metrics, app.state)
    errors.install(app)
    check_all_guarded(app.routes, is_open)
    return app


@cache
def _build_routes(with_keys: bool, open_metrics: bool) -> tuple[BaseRoute, ...]:
    """Build the routes once for all apps of a process: FastAPI works out the arguments and models of each for long."""
    router = APIRouter(generate_unique_id_function=_operation_id)
    router.include_router(routes_health.router)
    router.include_router(routes_yard.router)
    router.include_router(routes_session.open_router)
    router.include_router(documentation.router)
    locked = [Depends(documentation.bearer)] if with_keys else []
    router.include_router(routes_health.metrics_router, dependencies=[] if open_metrics else locked)
    router.include_router(routes_session.router, dependencies=locked)
    router.include_router(routes_keys.router, dependencies=locked)
    router.include_router(routes_jobs.router, dependencies=locked)
    router.include_router(routes_job_actions.router, dependencies=locked)
    router.include_router(routes_curves.router, dependencies=locked)
    router.include_router(routes_events.router, dependencies=locked)
    router.include_router(routes_metrics.router, dependencies=locked)
    router.include_router(routes_fine_tuning.router, dependencies=locked)
    router.include_router(routes_openai_models.router, dependencies=locked)
    router.include_router(routes_openai_files.router, dependencies=locked)
    router.include_router(routes_logs.router, dependencies=locked)
    router.include_router(routes_predictions.router, dependencies=locked)
    router.include_router(routes_aliases.router, dependencies=locked)
    router.include_router(routes_predictions_of_many.router, dependencies=locked)
    router.include_router(routes_open_inference.router, dependencies=locked)
    router.include_router(routes_checkpoints.router, dependencies=locked)
    router.include_router(routes_checkpoint_insight.router, dependencies=locked)
    router.include_router(routes_evaluations.router, dependencies=locked)
    router.include_router(routes_explanations.router, dependencies=locked)
    router.include_router(routes_similar_images.router, dependencies=locked)
    router.include_router(routes_dataset_bodies.router, dependencies=locked)
    router.include_router(routes_datasets.router, dependencies=locked)
    router.include_router(routes_dataset_images.router, dependencies=locked)
    router.include_router(routes_dataset_exports.router, dependencies=locked)
    router.include_router(routes_recipes.router, dependencies=locked)
    router.include_router(routes_uploads.router, dependencies=locked)
    router.include_router(routes_workers.router, dependencies=locked)
    return tuple(router.routes)


def _operation_id(route: APIRoute) -> str:
    return route.name


def _lifespan(
    settings: Settings,
    gate: Gate,
    limiter: RateLimiter | None,
    metrics: Metrics,
    given: Database | None,
    waker: Waker | None,
    runtime: Runtime | None,
    engine: ServingEngine | None,
) -> Callable[[FastAPI], AbstractAsyncContextManager[State]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[State]:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        tracing.start(settings, "trainyard-api")
        database = given or Database(settings.sqlalchemy_url)
        storage = open_storage(settings)
        gate.open(database)
        services = Services(
            settings=settings,
            database=database,
            storage=storage,
            reconciler=Reconciler(settings, database, waker or _build_waker(settings), storage, metrics),
            engine=engine or Engine(settings, database, storage, runtime or build_runtime(settings), metrics),
            gate=gate,
            metrics=metrics,
            exposition=Exposition(metrics, YardCollector(settings, database)),
        )
        app.state.services = services  # for the server, which marks it as draining
        await anyio.to_thread.run_sync(routes_health.look_at_tables, services)
        await anyio.to_thread.run_sync(routes_health.look_at_store, services)
        announce(ProcessRole.WEB)
        services.reconciler.start()
        services.engine.start()
        services.insight.start()
        try:
            yield {"services": services}
        finally:
            services.draining = True
            await gate.close()
            if limiter is not None:
                await limiter.close()
            await anyio.to_thread.run_sync(services.insight.close)
            await services.engine.stop()
            await anyio.to_thread.run_sync(services.reconciler.stop)
            await anyio.to_thread.run_sync(services.pictures.close)
            await anyio.to_thread.run_sync(services.pack_views.close)
            await anyio.to_thread.run_sync(storage.close)
            if given is None:
                database.close()
            await anyio.to_thread.run_sync(tracing.stop)

    return lifespan


def _build_waker(settings: Settings) -> Waker:
    return SilentWaker() if settings.redis_url is None else CeleryWaker(settings.redis_url.get_secret_value())
