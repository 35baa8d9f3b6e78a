"""`/recipes`: the named, complete sets of hyper-parameters, and what a job with one of them would do."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query
from pydantic import AfterValidator

from alexnet_core.config import TrainConfig
from alexnet_core.errors import ConfigError
from alexnet_core.errors import UnknownRecipe as CoreUnknownRecipe
from alexnet_core.network.geometry import count_parameters
from alexnet_core.recipes import Recipe, get_recipe, list_recipes, resolve
from api.http import errors
from api.http.guarded_route import GuardedRoute
from api.previews.preview import build_preview
from api.previews.run_times import Plan, estimate_time
from api.routes.queries import RecipePath
from api.schemas.base import ListRead
from api.schemas.recipes import RecipeRead
from api.schemas.runs.previews import PreviewCreate, PreviewRead
from api.services import CallerDep, ServicesDep
from trainyard.artifacts import datasets
from trainyard.errors import (
    BodyUnreadable,
    DatabaseUnavailable,
    DatasetNotFound,
    DatasetNotReady,
    DatasetRejected,
    InvalidConfig,
    InvalidRequest,
    JsonInvalid,
    MethodNotAllowed,
    RecipeNotFound,
    TooLarge,
    UnknownRecipe,
)

router = APIRouter(route_class=GuardedRoute)

PREVIEW = "preview"  #: what stands in a recipe's place in the path

ClassesQuery = Annotated[
    int, Query(ge=2, le=100_000, description="Number of classes for which parameters are counted.")
]


def _require_grey_or_colour(channels: int | None) -> int | None:
    if channels not in {None, 1, 3}:
        raise ValueError("images have 1 channel or 3")
    return channels


ChannelsQuery = Annotated[
    int | None,
    Query(
        description="Channels of the images: 1 or 3. Default: the recipe's own, else 3.",
        json_schema_extra={"enum": [1, 3]},
    ),
    AfterValidator(_require_grey_or_colour),
]


@router.get("/recipes", tags=["recipes"], summary="List recipes", responses=errors.responses(InvalidRequest))
def list_all_recipes(num_classes: ClassesQuery = 10, channels: ChannelsQuery = None) -> ListRead[RecipeRead]:
    """Return all recipes. They are few, so one page holds them."""
    found = [_describe(recipe, num_classes, channels, strict=False) for recipe in list_recipes()]
    return ListRead[RecipeRead].of(found, has_more=False, key="name")


@router.get(
    "/recipes/{name}",
    tags=["recipes"],
    summary="Get a recipe",
    responses=errors.responses(RecipeNotFound, InvalidRequest, InvalidConfig),
)
def get_one_recipe(name: RecipePath, num_classes: ClassesQuery = 10, channels: ChannelsQuery = None) -> RecipeRead:
    """Return one recipe: its complete config, the config's JSON schema, and the number of parameters."""
    if name == PREVIEW:
        raise MethodNotAllowed(f"`{PREVIEW}` is no recipe: send what you want to preview with POST")
    try:
        recipe = get_recipe(name)
    except CoreUnknownRecipe as exc:
        raise RecipeNotFound(str(exc), param="name") from exc
    described = _describe(recipe, num_classes, channels, strict=True)
    return described.model_copy(update={"config_schema": TrainConfig.model_json_schema()})


PreviewBody = Annotated[
    PreviewCreate,
    Body(
        openapi_examples={
            "smallest": {"summary": "The recipe that fits the dataset", "value": {"dataset": "digits"}},
            "longer": {
                "summary": "A recipe with overrides",
                "value": {"dataset": "digits", "recipe": "small-images", "overrides": {"epochs": 5, "lr": 0.02}},
            },
        }
    ),
]


@router.post(
    f"/recipes/{PREVIEW}",
    tags=["recipes"],
    summary="Preview a job",
    response_description="What the job would do and cost. Nothing is stored.",
    responses=errors.responses(
        *(DatasetNotFound, DatasetNotReady, DatasetRejected, InvalidRequest, UnknownRecipe, InvalidConfig),
        *(JsonInvalid, BodyUnreadable, TooLarge, DatabaseUnavailable),
    ),
)
def preview_job(body: PreviewBody, services: ServicesDep, caller: CallerDep) -> PreviewRead:
    """Return the complete config of a job, its steps, network and learning rate, and how much it would take.

    Refused is what `POST /jobs` refuses.
    """
    with services.database.reading() as session:
        dataset = datasets.get_dataset(session, caller, body.dataset, param="dataset")
        datasets.refuse_rejected(dataset)
        if datasets.is_coming(dataset):
            raise DatasetNotReady(
                f"dataset {dataset.id} is {dataset.state}: its images are not known yet. Wait until "
                f"`GET /datasets/{dataset.id}` says `ready`",
                param="dataset",
            )
        facts = datasets.facts_of(dataset)
        recipe, config = resolve(body.recipe, body.overrides, facts)
        plan = Plan(recipe, config, facts)
        estimate = estimate_time(session, caller, plan)
    return build_preview(plan, estimate)


def _describe(recipe: Recipe, num_classes: int, channels: int | None, *, strict: bool) -> RecipeRead:
    used_channels = channels or recipe.config.channels or 3
    num_parameters: int | None
    try:
        num_parameters = count_parameters(recipe.config, num_classes, used_channels)
    except ConfigError:
        if strict:
            raise
        num_parameters = None
    return RecipeRead(
        name=recipe.name,
        title=recipe.title,
        description=recipe.description,
        source=recipe.source,
        config=recipe.config.model_dump(mode="json"),
        num_parameters=num_parameters,
        num_classes=num_classes,
        channels=used_channels,
    )
