"""Writes the OpenAPI document of a yard with a key, whatever the settings of this machine are.

    python -m api.openapi_document web/openapi.json
    python -m generation.client_models

`make openapi` does both. The page's types and the models of the Python client are made from the file, and a test fails
where it differs from the app.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pydantic import SecretStr

from api.app import create_app
from trainyard.settings import Settings


def openapi_document() -> str:
    """Return the document as JSON, a value on each line, so that a small change of the API changes few lines."""
    defaults = Settings.model_construct(admin_key=SecretStr("a key, so that the routes say that they need one"))
    return json.dumps(create_app(defaults).openapi(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(openapi_document(), encoding="utf-8")
