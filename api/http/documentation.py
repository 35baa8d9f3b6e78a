"""The texts of `/docs` and `/openapi.json` that are not in the routes, and the page that shows them.

The page's scripts and styles come from the `fastapi-offline` package, so it works without a network.
"""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.security import HTTPBearer
from starlette.responses import FileResponse, HTMLResponse, Response

PAGE = "/docs"
DESCRIPTION = """
Train AlexNet on labelled images over HTTP, watch it, and predict from its newest checkpoint.

1. `GET /datasets` lists the datasets that jobs can train on.
2. `POST /jobs` with `{"dataset": "digits"}` queues a training run and answers with its `id`.
3. `GET /jobs/{job_id}` shows its progress, until `state` is `succeeded`, `failed` or `cancelled`.
4. `POST /predict` with an image answers from the newest checkpoint, even while the job is still training.

If the yard has a key, press *Authorize* first. Times are RFC 3339 in UTC. Lists are pages, newest first; the next
page is `?after=<last_id>`. Every refusal has the body
`{"error": {"type", "code", "message", "param", "request_id"}}`: `code` is for programs and does not change, `message`
says what to do.
"""
TAGS = [
    {"name": "jobs", "description": "Training runs: queue one, follow it, stop it."},
    {"name": "fine-tuning", "description": "Jobs for clients that speak OpenAI's fine-tuning API."},
    {"name": "predictions", "description": "Images in, classes out."},
    {"name": "insight", "description": "Why a network answers as it does, and how far it can be trusted."},
    {"name": "aliases", "description": "Names for checkpoints, which can be moved, with canary, shadow and rollback."},
    {"name": "open inference", "description": "The Open Inference Protocol (V2), for clients that speak it."},
    {"name": "checkpoints", "description": "What jobs produce: weights, metrics and checksums."},
    {"name": "datasets", "description": "Labelled images to train on."},
    {"name": "uploads", "description": "Files for datasets, in as many requests as it takes (tus 1.0)."},
    {"name": "recipes", "description": "Named, complete sets of hyper-parameters, which a job may override."},
    {"name": "workers", "description": "The workers, and the queue of waiting jobs."},
    {"name": "access", "description": "Who asks, and what this yard is."},
    {"name": "health", "description": "For load balancers and monitoring."},
]

bearer = HTTPBearer(
    auto_error=False, scheme_name="key", description="The key that the yard was started with (`TRAINYARD_ADMIN_KEY`)."
)
"""Says in the document that a key is needed; `middleware.Authentication` is what asks for it."""

_ASSETS = {
    f"{PAGE}/swagger-ui.css": "text/css",
    f"{PAGE}/swagger-ui-bundle.js": "text/javascript",
    f"{PAGE}/favicon.png": "image/png",
}
_START = f"{PAGE}/start.js"
PATHS = frozenset({PAGE, _START, *_ASSETS})

_CACHED = {"Cache-Control": "public, max-age=3600"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HTML = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Trainyard API</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" href="docs/favicon.png">
</head>
<body>
<div id="swagger-ui"></div>
<noscript>This page needs JavaScript. The same as JSON: <a href="openapi.json">openapi.json</a></noscript>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_SCRIPT = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  validatorUrl: null,  // never send the address of a yard to a service on the internet
});
"""

router = APIRouter(include_in_schema=False)


class DocumentedApp(FastAPI):
    """FastAPI without its documented 422 for every route with a parameter, whose body is not the one used here."""

    def openapi(self) -> dict[str, Any]:
        """See FastAPI."""
        if self.openapi_schema is None:
            self.openapi_schema = _without_foreign_bodies(super().openapi())
        return self.openapi_schema


@router.get(PAGE)
async def show_page() -> HTMLResponse:
    """Return the page."""
    return HTMLResponse(_HTML, headers={"Content-Security-Policy": _POLICY})


@router.get(_START)
async def get_script() -> Response:
    """Return the script that starts the page; it is a file, so that no inline script needs to be allowed."""
    return Response(_SCRIPT, media_type="text/javascript", headers=_CACHED)


def _add_asset(path: str, media_type: str) -> None:
    name = path.removeprefix(f"{PAGE}/")
    file = Path(str(distribution("fastapi-offline").locate_file(f"fastapi_offline/static/{name}")))

    async def get_asset() -> FileResponse:
        return FileResponse(file, media_type=media_type, headers=_CACHED)

    router.add_api_route(path, get_asset, response_class=FileResponse, name=name)


for _path, _media_type in _ASSETS.items():
    _add_asset(_path, _media_type)


def _without_foreign_bodies(document: dict[str, Any]) -> dict[str, Any]:
    for operations in document["paths"].values():
        for operation in operations.values():
            if operation["responses"].get("422", {}).get("description") == "Validation Error":
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
    return document
