"""The page at `/`: how its files are served, and that a wheel holds them."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.testclient import TestClient

from api.http import page
from tests.api.served import Served

INDEX = b"<!doctype html><title>Trainyard</title>"
SCRIPT = b"console.log(1);" * 100


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a build leaves."""
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_bytes(INDEX)
    (tmp_path / "favicon.svg").write_bytes(b"<svg/>")
    (tmp_path / "sources.sha256").write_text("0")
    (tmp_path / "assets/licences.txt").write_text("MIT")
    (tmp_path / "assets/index-abcdefgh.js").write_bytes(SCRIPT)
    (tmp_path / "assets/index-abcdefgh.js.gz").write_bytes(gzip.compress(SCRIPT, mtime=0))
    (tmp_path / "assets/index-abcdefgh.js.br").write_bytes(b"a brotli stream")
    return tmp_path


@pytest.fixture
def client(folder: Path) -> TestClient:
    app = FastAPI()
    app.include_router(page.build_router(folder))
    return TestClient(app, headers={"Accept-Encoding": "identity"})


def test_the_page_is_asked_for_each_time_and_told_that_it_is_the_same(client: TestClient) -> None:
    answer = client.get("/")
    assert (answer.status_code, answer.content) == (200, INDEX)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    again = client.get("/", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_file_named_by_its_hash_is_kept_for_good(client: TestClient) -> None:
    answer = client.get("/assets/index-abcdefgh.js", headers={"Accept-Encoding": "identity"})
    assert answer.content == SCRIPT
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert client.get("/assets/licences.txt").headers["cache-control"] == "no-cache"  # its name stays the same


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip, deflate, br, zstd", "br"),
        ("GZIP;q=1.0", "gzip"),
        ("br;q=0, gzip;q=0.5", "gzip"),
        ("br;q=0.000", None),
        ("deflate", None),
        ("", None),
    ],
)
def test_a_file_is_sent_as_it_was_compressed_at_the_build(
    client: TestClient, accepted: str, coding: str | None
) -> None:
    with client.stream("GET", "/assets/index-abcdefgh.js", headers={"Accept-Encoding": accepted}) as answer:
        body = b"".join(answer.iter_raw())
    assert answer.headers.get("content-encoding") == coding
    assert answer.headers["vary"] == "Accept-Encoding"
    assert body == {"br": b"a brotli stream", "gzip": gzip.compress(SCRIPT, mtime=0), None: SCRIPT}[coding]


def test_each_coding_has_a_tag_of_its_own(client: TestClient) -> None:
    tags = set()
    for coding in ("br", "gzip", "identity"):
        with client.stream("GET", "/assets/index-abcdefgh.js", headers={"Accept-Encoding": coding}) as answer:
            tags.add(answer.headers["etag"])
    assert len(tags) == 3


def test_every_file_of_the_page_has_the_strict_policy(client: TestClient) -> None:
    for path in ("/", "/favicon.svg", "/assets/index-abcdefgh.js"):
        policy = client.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy, path
        assert "unsafe" not in policy
        assert "require-trusted-types-for 'script'" in policy


@pytest.mark.parametrize(
    "path",
    [
        "/assets/gone-1.js",
        "/assets/",
        "/assets/..%2fsources.sha256",
        "/assets/%2e%2e/sources.sha256",
        "/sources.sha256",
        "/assets/index-abcdefgh.js.gz",
        "/index.html",
    ],
)
def test_nothing_else_is_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_where_nothing_was_built_the_page_says_what_to_run(tmp_path: Path) -> None:
    app = FastAPI()
    app.include_router(page.build_router(tmp_path / "nothing"))
    answer = TestClient(app).get("/")
    assert answer.status_code == 404
    assert "make page" in answer.text
    assert "docker compose up --build" in answer.text  # a start alone would take the image as it is
    assert 'href="docs"' in answer.text
    assert answer.headers["cache-control"] == "no-cache"


def test_the_page_is_open_where_the_api_needs_a_key(
    serve: Callable[..., Served], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "FOLDER", folder)
    served = serve(admin_key=SecretStr("k" * 20))
    with httpx.Client(base_url=served.url, headers={"Accept-Encoding": "identity"}, trust_env=False) as http:
        for path in ("/", "/favicon.svg", "/assets/index-abcdefgh.js"):
            assert http.get(path).status_code == 200, path
        assert http.get("/assets/index-abcdefgh.js", headers={"Accept-Encoding": "gzip"}).content == SCRIPT
        assert http.head("/").status_code == 200
        assert http.get("/jobs").status_code == 401
