"""Datasets are looked at and downloaded wherever their packs are stored."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from alexnet_core.data.pack import open_pack
from alexnet_core.layout import pack_key
from tests import object_store
from tests.api.conftest import Serve
from tests.api.served import Served, error_of
from tests.api.stored_datasets import add_classes
from tests.object_store import ObjectServer
from trainyard.storage.local import LocalStorage

VIEWS = ["images?limit=100", "images/test/4?px=32", "sprite", "preview", "mean.png", "histogram"]


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectServer]:
    with object_store.serving() as running:
        yield running


def publish(served: Served, dataset_id: str) -> None:
    """Move a pack, and the mark of the yard's store, from the data folder to an object store."""
    storage, folder = served.app.state.services.storage, served.settings.data_dir / pack_key(dataset_id)
    mark = LocalStorage(served.settings.data_dir).read_mark()
    assert mark is not None
    storage.write_mark(mark)
    storage.publish(folder, pack_key(dataset_id))
    shutil.rmtree(folder)


def test_views_of_a_pack_in_an_object_store_are_those_of_one_in_a_folder(
    serve: Serve, server: ObjectServer, tmp_path: Path
) -> None:
    near = serve()
    dataset_id, pack = add_classes(near, tmp_path)
    expected = {view: near.http.get(f"/datasets/{dataset_id}/{view}") for view in VIEWS}
    digest = pack.digest
    near.stop()
    store = server.settings(tmp_path)
    names = ("storage_url", "storage_endpoint", "storage_access_key", "storage_secret_key", "storage_region")
    far = serve(**{name: getattr(store, name) for name in names})
    publish(far, dataset_id)
    for view, response in expected.items():
        found = far.http.get(f"/datasets/{dataset_id}/{view}")
        assert (found.status_code, found.content) == (200, response.content), view
        assert found.headers["etag"] == response.headers["etag"]
    archive = far.http.get(f"/datasets/{dataset_id}/download").content
    rest = far.http.get(f"/datasets/{dataset_id}/download", headers={"Range": "bytes=5000-"})
    assert (rest.status_code, rest.content) == (206, archive[5000:])
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(tmp_path / "out", filter="data")
    copy = open_pack(tmp_path / "out" / dataset_id)
    copy.verify()
    assert copy.digest == digest


def test_a_store_that_does_not_answer_is_503(serve: Serve, server: ObjectServer, tmp_path: Path) -> None:
    near = serve()
    dataset_id, _ = add_classes(near, tmp_path)
    near.stop()
    shutil.rmtree(tmp_path / pack_key(dataset_id))
    store = server.settings(tmp_path).model_copy(update={"storage_endpoint": "http://127.0.0.1:9"})
    names = ("storage_url", "storage_endpoint", "storage_access_key", "storage_secret_key", "storage_region")
    far = serve(**{name: getattr(store, name) for name in names}, storage_timeout_s=1)
    for view in ("sprite", "histogram", "download"):
        error_of(far.http.get(f"/datasets/{dataset_id}/{view}", timeout=60), 503, "storage_unavailable")
