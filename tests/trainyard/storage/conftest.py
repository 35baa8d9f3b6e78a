"""One object store for all tests of these modules, with a bucket that is empty for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import object_store
from tests.object_store import FaultyFilesystem, ObjectServer
from trainyard.storage.remote import RemoteFiles


@pytest.fixture(scope="session")
def server() -> Iterator[ObjectServer]:
    with object_store.serving() as running:
        yield running


@pytest.fixture
def filesystem(server: ObjectServer, tmp_path_factory: pytest.TempPathFactory) -> FaultyFilesystem:
    return FaultyFilesystem(object_store.connect(server.settings(tmp_path_factory.mktemp("none"))))


@pytest.fixture
def files(filesystem: FaultyFilesystem, request: pytest.FixtureRequest) -> RemoteFiles:
    """A part of the bucket that no other test has."""
    part = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    return RemoteFiles(filesystem, f"{object_store.BUCKET}/{part}", sleep=lambda _: None)
