"""Requests made up from the OpenAPI document: no 500, and no answer that the document does not name."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings, strategies
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from api.app import create_app
from tests.api.served import Served
from tests.api.stored_datasets import make_digits_ready
from trainyard.settings import Settings

pytestmark = pytest.mark.slow  # many requests to every operation; each route has tests of its own


@schemathesis.serializer("application/offset+octet-stream")
def as_bytes(_: object, value: Any) -> bytes:
    """What tus sends; the tool knows no such type."""
    return value if isinstance(value, bytes) else str(getattr(value, "data", value)).encode()


TIMEOUT_HEADER = "X-Trainyard-Timeout-Ms"
DOCUMENT = create_app(Settings()).openapi()  # made once: it takes longer than the requests to a path
PATHS = sorted(DOCUMENT["paths"])


def not_a_failure(context: Any, response: Any, case: schemathesis.Case[Any]) -> None:
    """504 is right where the request itself gave so little time (one of the made up ones gives 40 ms)."""
    if response.status_code == 504 and case.headers and TIMEOUT_HEADER in case.headers:
        assert response.json()["error"]["code"] == "deadline_exceeded"
    else:
        not_a_server_error(context, response, case)


def not_an_internal_error(_context: object, response: Any, _case: object) -> None:
    assert response.status_code != 500, response.text


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("requests", [pytest.param(8, id="few"), pytest.param(60, id="many", marks=pytest.mark.chaos)])
def test_no_made_up_request_breaks_the_api(served: Served, path: str, requests: int) -> None:
    served.add_checkpoint(served.add_job(), 1)
    if "dataset_id" in path:
        make_digits_ready(served)
    schema = schemathesis.openapi.from_dict({**DOCUMENT, "paths": {path: DOCUMENT["paths"][path]}})
    schema.config.base_url = served.url
    checks = [not_a_failure, status_code_conformance, response_schema_conformance]
    if path == "/readyz":
        checks.remove(not_a_failure)  # 503 is one of its two answers
    if path == "/events":
        served.app.state.services.draining = True  # else a stream would never end
    if path in {"/explain", "/activations"}:
        checks[0] = not_an_internal_error  # the checkpoint here is none that a network can be made of, which is a 503

    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()

        @settings(
            max_examples=requests,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(), is_of_digits=strategies.booleans())
        def fuzz(case: schemathesis.Case[Any], is_of_digits: bool) -> None:
            if is_of_digits and "dataset_id" in case.path_parameters:
                case.path_parameters["dataset_id"] = "digits"  # a ready one, so that the other parameters matter
            case.call_and_validate(checks=checks, timeout=60)

        fuzz()
