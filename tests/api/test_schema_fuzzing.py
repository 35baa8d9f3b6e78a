"""Requests made up from the OpenAPI document: never a 5xx but the 503s that it names, never an answer it does not name."""

from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from api.app import create_app
from tests.api.served import FakeRuntime, Served
from trainyard.database import Database
from trainyard.queue import SilentBell
from trainyard.schema import migrate
from trainyard.settings import Settings


@pytest.fixture(scope="module")
def api_schema(tmp_path_factory: pytest.TempPathFactory):
    data_dir: Path = tmp_path_factory.mktemp("fuzzed")
    yard = Settings(data_dir=data_dir, model_wait_s=2)
    database = Database(yard.sqlalchemy_url)
    migrate(database)
    served = Served(create_app(yard, database=database, bell=SilentBell(), runtime=FakeRuntime()), database, yard)
    served.add_checkpoint(served.add_job(), 1)
    yield schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    served.stop()
    database.close()


schema = schemathesis.pytest.from_fixture("api_schema")


@schema.parametrize()
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_made_up_request_breaks_the_api(case: schemathesis.Case) -> None:
    case.call_and_validate(checks=[not_a_server_error, status_code_conformance, response_schema_conformance])
