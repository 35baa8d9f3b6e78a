"""`/datasets` and `/recipes`: what jobs can train on, and how."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from alexnet_core.config import TrainConfig
from alexnet_core.errors import ConfigError
from alexnet_core.errors import UnknownRecipe as CoreUnknownRecipe
from alexnet_core.network.geometry import count_parameters
from alexnet_core.recipes import Recipe, get_recipe, list_recipes
from api.http import errors
from api.routes.queries import AfterQuery, DatasetPath, LimitQuery, RecipePath
from api.schemas.base import ListRead
from api.schemas.catalogue import DatasetRead, RecipeRead
from api.services import CallerDep, ServicesDep
from trainyard.artifacts import datasets
from trainyard.errors import (
    DatabaseUnavailable,
    DatasetNotFound,
    InvalidConfig,
    InvalidRequest,
    RecipeNotFound,
)

router = APIRouter()

ClassesQuery = Annotated[
    int, Query(ge=2, le=100_000, description="Number of classes for which parameters are counted.")
]
ChannelsQuery = Annotated[
    int | None, Query(ge=1, le=3, description="Channels of the images. Default: the recipe's own, else 3.")
]


@router.get(
    "/datasets",
    tags=["datasets"],
    summary="List datasets",
    responses=errors.responses(InvalidRequest, DatabaseUnavailable),
)
def list_datasets(
    services: ServicesDep, caller: CallerDep, limit: LimitQuery = 20, after: AfterQuery = None
) -> ListRead[DatasetRead]:
    """Return a page of the datasets that you may train on, including the built-in ones."""
    with services.database.reading() as session:
        page = datasets.list_datasets(session, caller, limit=limit, after=after)
        return ListRead[DatasetRead].of([DatasetRead.of(row) for row in page.items], has_more=page.has_more)


@router.get(
    "/datasets/{dataset_id}",
    tags=["datasets"],
    summary="Get a dataset",
    responses=errors.responses(DatasetNotFound, DatabaseUnavailable),
)
def get_dataset(dataset_id: DatasetPath, services: ServicesDep, caller: CallerDep) -> DatasetRead:
    """Return one dataset, by id or by name."""
    if "\0" in dataset_id:
        raise DatasetNotFound(param="dataset_id")
    with services.database.reading() as session:
        return DatasetRead.of(datasets.get_dataset(session, caller, dataset_id, param="dataset_id"))


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
    try:
        recipe = get_recipe(name)
    except CoreUnknownRecipe as exc:
        raise RecipeNotFound(str(exc), param="name") from exc
    described = _describe(recipe, num_classes, channels, strict=True)
    return described.model_copy(update={"config_schema": TrainConfig.model_json_schema()})


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
