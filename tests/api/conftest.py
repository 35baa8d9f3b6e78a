import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from api.app import create_app
from api.http import page
from api.http.server import TAKEN_WITHIN_S
from api.insight import insight
from api.serving import batching
from tests.api.aliased import Three
from tests.api.served import FakeRuntime, Served
from tests.api.trained_toy import TrainedToy, add_trained_toy
from trainyard.database.connection import Database
from trainyard.database.schema import migrate
from trainyard.scheduling.queue import SilentWaker
from trainyard.settings import Settings


@pytest.fixture(scope="session", autouse=True)
def page_read_once() -> Iterator[None]:
    """Apps share the page's files, which are read when an app is made: that takes as long as all else of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "read_files", functools.cache(page.read_files))
        yield


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, model_wait_s=5)


@pytest.fixture
def database(settings: Settings, migrated_sqlite_file: Path) -> Iterator[Database]:
    shutil.copyfile(migrated_sqlite_file, settings.data_dir / "trainyard.db")
    database = Database(settings.sqlalchemy_url)
    yield database
    database.close()


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime()


@pytest.fixture
def only_the_thread_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave even a lone image to the inference thread: an event loop that computes it would stand at a test's gate."""
    monkeypatch.setattr(batching, "AT_ONCE_S", 0.0)


Serve = Callable[..., Served]


@pytest.fixture
def serve(settings: Settings, database: Database, runtime: FakeRuntime) -> Iterator[Serve]:
    """Starts the app on a real server; keyword arguments replace settings."""
    running: list[Served] = []

    def start(
        prepare: Callable[[FastAPI], None] | None = None,
        *,
        taken_within_s: float = TAKEN_WITHIN_S,
        door: dict[str, float] | None = None,
        **changes: Any,
    ) -> Served:
        used = settings.model_copy(update=changes)
        app = create_app(used, database=database, waker=SilentWaker(), runtime=runtime)
        if prepare is not None:
            prepare(app)
        served = Served(app, database, used, taken_within_s=taken_within_s, **(door or {}))
        running.append(served)
        return served

    yield start
    for served in running:
        served.stop()


@pytest.fixture
def served(serve: Serve) -> Served:
    return serve()


@pytest.fixture
def http(served: Served) -> httpx.Client:
    return served.http


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainedToy]:
    """One yard with one child process for all tests of insight: the child takes seconds to start."""
    folder = tmp_path_factory.mktemp("insight")
    settings = Settings(data_dir=folder / "data", model_wait_s=5)
    settings.data_dir.mkdir()
    database = Database(settings.sqlalchemy_url)
    migrate(database)
    app = create_app(settings, database=database, waker=SilentWaker(), runtime=FakeRuntime())
    served = Served(app, database, settings)
    served.http.timeout = 60
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(insight, "WAIT_S", 60.0)  # a child may start slowly beside other tests
        yield add_trained_toy(served, folder / "made")
    served.stop()
    database.close()


@pytest.fixture
def three(served: Served) -> Three:
    """A yard with a job and three checkpoints of it, of which the last answers the opposite."""
    job_id = served.add_job()
    ids = [served.add_checkpoint(job_id, epoch, keep_latest=9).id for epoch in (1, 2)]
    ids.append(served.add_checkpoint(job_id, 3, nature="inverted", keep_latest=9).id)
    return served, job_id, ids
