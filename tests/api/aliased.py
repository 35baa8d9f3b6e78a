"""What the tests of aliases do in one line: move one, look at it, ask for it. `Three` is what most begin with."""

from __future__ import annotations

from typing import Any

from tests.api.served import Served, png

PNG = {"Content-Type": "image/png"}

Three = tuple[Served, str, list[str]]  #: a yard, a job of it, and three checkpoints; the last answers the opposite


def predict(served: Served, model: str = "production", *, value: int = 255, **headers: str) -> dict[str, Any]:
    sent = PNG | {name.replace("_", "-"): text for name, text in headers.items()}
    response = served.http.post(f"/predict?model={model}", content=png(value), headers=sent)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def put(served: Served, body: dict[str, Any], status: int = 200, name: str = "production") -> dict[str, Any]:
    response = served.http.put(f"/aliases/{name}", json=body)
    assert response.status_code == status, response.text
    answer: dict[str, Any] = response.json()
    return answer


def look(served: Served, name: str = "production") -> dict[str, Any]:
    response = served.http.get(f"/aliases/{name}")
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body
