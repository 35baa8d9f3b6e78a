"""`/v1/models`: recipes, aliases and checkpoints for the clients of OpenAI's API."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Path
from sqlalchemy import select

from alexnet_core.recipes import list_recipes
from api.http import errors
from api.http.guarded_route import GuardedRoute
from api.routes.fine_tuning.openai_words import in_openai_words
from api.routes.job_actions import remove_job
from api.routes.queries import MAX_REFERENCE
from api.schemas.runs.fine_tuning import FITTING
from api.schemas.runs.openai_objects import OpenAIDeleted, OpenAIModelList, OpenAIModelRead
from api.services import CallerDep, ServicesDep
from trainyard.artifacts.aliases import LATEST, MAX_ALIASES, is_alias_name, list_aliases
from trainyard.artifacts.checkpoints import get_latest, list_checkpoints, resolve_model
from trainyard.artifacts.naming import alias_moves
from trainyard.artifacts.naming.alias_moves import Mover
from trainyard.database.tables import Checkpoint
from trainyard.errors import (
    CheckpointNotFound,
    CheckpointPruned,
    Conflict,
    DatabaseUnavailable,
    IllegalTransition,
    InUse,
    JobNotFound,
    NoCheckpoint,
    NoCheckpointOfJob,
)
from trainyard.logs import request_id
from trainyard.serving_errors import AliasMoved, AliasNotFound, ModelNotFound

router = APIRouter(prefix="/v1/models", tags=["fine-tuning"], route_class=GuardedRoute)

MAX_LISTED = 1000  #: checkpoints; these clients know no pages of models
ModelPath = Annotated[
    str,
    Path(
        max_length=MAX_REFERENCE,
        description="A recipe, `alexnet`, an alias, `latest`, `ckpt_…`, `job_…` (its best) or `job_…@epoch-3`.",
    ),
]
_RECIPES = frozenset({FITTING, *(recipe.name for recipe in list_recipes())})


@router.get("", summary="List models", responses=errors.responses(DatabaseUnavailable))
def list_openai_models(services: ServicesDep, caller: CallerDep) -> OpenAIModelList:
    """Return all recipes, your aliases with `latest`, and the newest thousand of your checkpoints."""
    found = [OpenAIModelRead.of_recipe(name) for name in (FITTING, *(recipe.name for recipe in list_recipes()))]
    with services.database.reading() as session:
        named = {alias.name: alias.checkpoint_id for alias in list_aliases(session, caller, limit=MAX_ALIASES).items}
        checkpoints = list_checkpoints(session, caller, job_id=None, limit=MAX_LISTED).items
        of_aliases = session.scalars(select(Checkpoint).where(Checkpoint.id.in_(named.values())))
        by_id = {row.id: row for row in of_aliases}
        with suppress(NoCheckpoint):
            found.append(OpenAIModelRead.of_checkpoint(get_latest(session, caller), LATEST))
        found += [OpenAIModelRead.of_checkpoint(by_id[its], name) for name, its in named.items() if its in by_id]
        found += [OpenAIModelRead.of_checkpoint(row) for row in checkpoints]
    return OpenAIModelList(data=found)


@router.get(
    "/{model}",
    summary="Get a model",
    responses=errors.responses(
        *(ModelNotFound, JobNotFound, CheckpointNotFound, CheckpointPruned, NoCheckpointOfJob, DatabaseUnavailable)
    ),
)
def get_openai_model(model: ModelPath, services: ServicesDep, caller: CallerDep) -> OpenAIModelRead:
    """Return one model: a recipe, or the checkpoint that a name stands for now."""
    if model in _RECIPES:
        return OpenAIModelRead.of_recipe(model)
    _check_form(model)
    with in_openai_words(job_id="model", checkpoint_id="model"), services.database.reading() as session:
        try:
            return OpenAIModelRead.of_checkpoint(resolve_model(session, caller, model), model)
        except (AliasNotFound, NoCheckpoint) as exc:
            raise _not_found(model) from exc


@router.delete(
    "/{model}",
    summary="Delete a model",
    responses=errors.responses(
        *(ModelNotFound, JobNotFound, CheckpointNotFound, CheckpointPruned, NoCheckpointOfJob),
        *(Conflict, AliasMoved, IllegalTransition, InUse, DatabaseUnavailable),
    ),
)
def delete_openai_model(model: ModelPath, services: ServicesDep, caller: CallerDep) -> OpenAIDeleted:
    """Remove an alias, or by its id a job that has ended, with all its checkpoints.

    A recipe stays, and so does a single checkpoint: a job keeps its best and its newest ones.
    """
    if model in _RECIPES or model == LATEST:
        raise Conflict(f"{model} is no model of yours: it can't be deleted", param="model")
    _check_form(model)
    with in_openai_words(name="model", job_id="model", checkpoint_id="model"):
        if is_alias_name(model):
            try:
                with services.database.writing() as session:
                    alias_moves.delete_alias(session, Mover(caller, request_id.get()), model)
            except AliasNotFound as exc:
                raise _not_found(model) from exc
        elif model.startswith("job_") and "@" not in model:
            remove_job(services, caller, model)
        else:
            with services.database.reading() as session:
                row = resolve_model(session, caller, model)
            raise Conflict(
                f"checkpoint {row.id} can't be deleted alone, as its job keeps its best and its newest ones: delete "
                f"{row.job_id} to remove the job with all of its checkpoints",
                param="model",
            )
    return OpenAIDeleted(id=model, object="model")


def _check_form(model: str) -> None:
    """Refuse what no model can be called.

    Raises:
        ModelNotFound: it is so.
    """
    if not (model == LATEST or is_alias_name(model) or model.startswith(("ckpt_", "job_"))) or not model.isprintable():
        raise _not_found(model)


def _not_found(model: str) -> ModelNotFound:
    return ModelNotFound(f"there is no model {model[:100]!r}: `GET /v1/models` lists them", param="model")
