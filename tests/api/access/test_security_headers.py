"""The headers against sniffing, framing and keeping, by every road on which an answer leaves."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from api.access.security_headers import EVERY_ANSWER, EVERY_JSON
from tests.api.conftest import Serve
from tests.api.served import Served, png

PNG = {"Content-Type": "image/png"}


@pytest.mark.parametrize(
    ("method", "path", "sent", "status"),
    [
        ("GET", "/jobs", {}, 200),
        ("GET", "/healthz", {}, 200),
        ("POST", "/predict", {"content": png(), "headers": PNG}, 200),
        ("POST", "/predict?top_k=0", {"content": png(), "headers": PNG}, 422),
        ("GET", "/nowhere", {}, 404),
        ("GET", "/jobs", {"headers": {"Host": "evil.example"}}, 421),
    ],
    ids=["by the app", "by the head alone", "on its connection", "refused", "no route", "refused before"],
)
def test_json_has_them_all(served: Served, method: str, path: str, sent: dict[str, Any], status: int) -> None:
    served.add_checkpoint(served.add_job(), 1)
    response = served.http.request(method, path, **sent)
    assert response.status_code == status, response.text
    assert dict(response.headers) | EVERY_ANSWER | EVERY_JSON == dict(response.headers)
    assert response.headers.get_list("cache-control") == ["no-store"], "each once"


def test_a_refusal_before_the_body_has_them(serve: Serve) -> None:
    response = serve(admin_key=SecretStr("k" * 16)).http.post("/jobs", json={})
    assert response.status_code == 401
    assert dict(response.headers) | EVERY_ANSWER | EVERY_JSON == dict(response.headers)


def test_what_a_route_says_itself_stays(served: Served) -> None:
    policy = served.http.get("/docs").headers["content-security-policy"]
    assert policy != EVERY_ANSWER["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
