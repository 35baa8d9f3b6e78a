"""`/datasets`: the labelled images that jobs can train on."""

from __future__ import annotations

from fastapi import APIRouter

from api.http import errors
from api.routes.queries import AfterQuery, DatasetPath, LimitQuery
from api.schemas.base import ListRead
from api.schemas.datasets import DatasetRead
from api.services import CallerDep, ServicesDep
from trainyard.artifacts import datasets
from trainyard.errors import DatabaseUnavailable, DatasetNotFound, InvalidRequest

router = APIRouter()


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
