"""`POST /datasets` with the archive itself as the body, or in a form. `datasets.create_dataset` takes JSON.

The two share a path: which one answers depends on the Content-Type. The document describes them as one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.routing import Match
from starlette.types import Scope

from api import submission
from api.http.guarded_route import GuardedRoute
from api.http.streamed_bodies import is_streamed
from api.routes.queries import KeyHeader
from api.schemas.datasets import DatasetOptions, DatasetRead
from api.services import CallerDep, Services, ServicesDep
from api.submission import SubmittedDataset
from api.uploads.bodies import FORM, ReceivedFile, check_type, receive_body
from trainyard.artifacts import uploads
from trainyard.artifacts.dataset_intake import NewDataset
from trainyard.errors import InvalidRequest

ANY_NAME = "a name that the form may still bring"


class StreamedRoute(GuardedRoute):
    """Answers only requests whose body goes straight to the disk."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See Starlette."""
        if scope["type"] != "http" or not is_streamed(scope["method"], scope["path"], scope["headers"]):
            return Match.NONE, {}
        return super().matches(scope)


router = APIRouter(route_class=StreamedRoute, include_in_schema=False)


@router.post("/datasets", status_code=202)
async def create_dataset_of_body(
    request: Request,
    response: Response,
    services: ServicesDep,
    caller: CallerDep,
    idempotency_key: KeyHeader = None,
) -> DatasetRead:
    """Store the file in the body, and add a dataset that is made of it. If anything is wrong, nothing of it stays."""
    in_query = _collect(request.query_params.multi_items())
    can_name = check_type(request) == FORM and "name" not in in_query
    read_options(in_query | ({"name": ANY_NAME} if can_name else {}))  # what is wrong already needs no body

    def submit(received: ReceivedFile) -> SubmittedDataset:
        asked = read_options(_collect([*in_query.items(), *received.fields.items()]))
        return submit_received(services, caller, asked, received, idempotency_key)

    submitted = await take_dataset(request, services, caller, submit)
    submission.tell_where(response, f"/datasets/{submitted.dataset.id}", is_new=submitted.is_new)
    return submitted.dataset


async def take_dataset(
    request: Request, services: Services, owner: str, submit: Callable[[ReceivedFile], SubmittedDataset]
) -> SubmittedDataset:
    """Receive the file in a request's body, and add a dataset that is made of it. Else nothing of the file stays.

    Args:
        request: with the file.
        services: of the API.
        owner: whose it will be.
        submit: adds the dataset, in a thread.
    """
    received = await receive_body(request, services.uploads, owner)
    try:
        submitted = await anyio.to_thread.run_sync(submit, received)
    except BaseException:
        with anyio.CancelScope(shield=True):
            await services.uploads.discard(received.upload_id)
        raise
    if not submitted.is_new:
        await services.uploads.discard(received.upload_id)  # the first one has its own
    return submitted


def read_options(given: dict[str, str]) -> DatasetOptions:
    """Read what is asked of a dataset from texts.

    Raises:
        RequestValidationError: something is missing, unknown or out of range.
    """
    try:
        return DatasetOptions.model_validate_strings(given)
    except ValidationError as exc:
        problems: list[Any] = [{**problem, "loc": ("query", *problem["loc"])} for problem in exc.errors()]
        raise RequestValidationError(problems) from exc


def submit_received(
    services: Services, owner: str, asked: DatasetOptions, received: ReceivedFile, key: str | None
) -> SubmittedDataset:
    """Add a dataset that is made of a file which was received, or find the one that the same file already made."""
    with services.database.reading() as session:
        sha256 = uploads.get_upload(session, owner, received.upload_id).sha256
    new = NewDataset(asked.name, {"upload": received.upload_id}, asked.options, parent_id=asked.parent_id)
    content = asked.model_dump(mode="json") | {"sha256": sha256}
    return submission.submit_dataset(services, owner, new, content, key)


def _collect(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return what was given by name.

    Raises:
        InvalidRequest: something comes twice.
    """
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise InvalidRequest(f"{name[:100]!r} comes twice: send it once, in the query or in the form", param=name)
        found[name] = value
    return found
