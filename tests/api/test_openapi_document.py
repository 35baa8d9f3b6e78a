import json
from pathlib import Path

import pytest

from api.openapi_document import openapi_document

COMMITTED = Path(__file__).parents[2] / "web" / "openapi.json"


def test_the_committed_document_is_the_apps() -> None:
    current = openapi_document() == COMMITTED.read_text(encoding="utf-8")
    assert current, "web/openapi.json is not what the app says: run `make openapi` and commit the file"


def test_the_document_does_not_depend_on_the_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    document = openapi_document()
    monkeypatch.setenv("TRAINYARD_OPEN_METRICS", "1")
    monkeypatch.setenv("TRAINYARD_ADMIN_KEY", "short")
    assert openapi_document() == document


def test_the_document_says_which_routes_need_a_key() -> None:
    paths = json.loads(openapi_document())["paths"]
    assert paths["/jobs"]["post"]["security"]
    assert "security" not in paths["/healthz"]["get"]
