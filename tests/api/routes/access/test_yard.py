"""What a yard tells before anybody has a key."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.routing import BaseRoute

from api.routes.access import yard
from api.routes.access.yard import ROUTES, Feature, list_features
from tests.api.served import Served
from trainyard.build import build_id
from trainyard.settings import Settings


def test_it_needs_no_key_and_says_whether_the_rest_does(serve: Callable[..., Served]) -> None:
    for key in (None, SecretStr("0123456789abcdef0123")):
        answer = serve(admin_key=key, max_upload_bytes=4096).http.get("/yard")
        assert answer.status_code == 200
        yard = answer.json()
        assert (yard["version"], yard["needs_key"]) == (build_id(), key is not None)
        assert set(yard) == {"version", "needs_key", "features", "limits"}
        assert yard["limits"]["max_upload_bytes"] == 4096
        for name, value in yard["limits"].items():
            if name != "max_upload_bytes":
                assert value == getattr(Settings(), name)


def test_a_feature_is_there_when_its_route_is(served: Served) -> None:
    features = served.http.get("/yard").json()["features"]
    assert {"session", "uploads", "aliases", "explanations", "evaluation"} <= set(features)
    assert set(ROUTES) == set(Feature)


def test_the_routes_are_looked_through_once(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may ask, and the event loop would stand still meanwhile."""
    looks = []

    def look(routes: Iterable[BaseRoute]) -> list[Feature]:
        looks.append(routes)
        return list_features(routes)

    monkeypatch.setattr(yard, "list_features", look)
    first, second = (served.http.get("/yard").json()["features"] for _ in range(2))
    assert first == second != []
    assert len(looks) == 1


def test_a_route_that_is_missing_or_lacks_the_parameter_is_no_feature() -> None:
    app = FastAPI()
    assert list_features(app.routes) == []

    @app.get("/jobs")
    def list_jobs(state: str) -> str:
        return state

    assert list_features(app.routes) == []

    other = FastAPI()

    @other.get("/jobs")
    def list_rows(view: str) -> str:
        return view

    assert list_features(other.routes) == [Feature.ROWS]
