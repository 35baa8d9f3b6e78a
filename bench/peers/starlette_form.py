"""A server that takes a form as Starlette's documentation shows: `python -m bench.peers.starlette_form PORT`.

The file ends in a temporary file of Starlette's, which is gone after the request; nothing is synced, counted or kept.
"""

from __future__ import annotations

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def receive(request: Request) -> JSONResponse:
    """Parse the form and say how large its file is."""
    async with request.form() as form:
        file = form["file"]
        assert isinstance(file, UploadFile)
        return JSONResponse({"size_bytes": file.size}, 202)


async def is_ready(request: Request) -> JSONResponse:
    """Say that the server answers."""
    return JSONResponse({})


app = Starlette(routes=[Route("/datasets", receive, methods=["POST"]), Route("/readyz", is_ready)])

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", http="httptools")
