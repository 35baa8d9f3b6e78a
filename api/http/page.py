"""The page for browsers at `/`: what `web/build.py` built into `api/page/`, served out of memory.

Files whose names contain their hash are kept by browsers for good; `/` itself is asked for each time. Where nothing was
built, `/` says what to run.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from api.http.validators import is_known

FOLDER = Path(__file__).parents[1] / "page"
ASSETS = "/assets/"  #: below it are the files that `/` names; like `/` they are open, as they tell nothing of the yard
ICON = "/favicon.svg"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types svelte-trusted-html trainyard-worker"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
}
_ASK = {"Cache-Control": "no-cache"}
_KEEP = {"Cache-Control": "public, max-age=31536000, immutable"}
_CODINGS = {"br": ".br", "gzip": ".gz"}  #: the best first
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".txt": "text/plain; charset=utf-8",
}
_HASHED = re.compile(r"-[\w-]{8}\.\w+$")  #: the names that change with the content
_NOT_BUILT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Trainyard</title>
</head>
<body>
<h1>The page is not built</h1>
<p>The yard runs, and its API answers: see <a href="docs">its documentation</a>.</p>
<p>To build the page, run <code>make page</code> in the checkout that this yard was started from, then start the yard
again, with Docker Compose by <code>docker compose up --build</code>. The build needs Node 20.19 or newer, or a network
from which pip can install Node.</p>
</body>
</html>
"""


@dataclass(frozen=True)
class PageFile:
    """A file of the page, as it is sent."""

    media_type: str
    tag: str  #: the `ETag` of the plain file
    content: bytes
    coded: dict[str, bytes] = field(default_factory=dict)  #: content coding -> the same, compressed

    def choose(self, accepted: str) -> tuple[str | None, bytes]:
        """Return the best coding that a client accepts, None for no coding, and the bytes."""
        wanted = _read_codings(accepted)
        for coding, content in self.coded.items():
            if coding in wanted:
                return coding, content
        return None, self.content


def read_files(folder: Path) -> dict[str, PageFile]:
    """Read what was built: path below `/` -> file; nothing where nothing was built."""
    if not (folder / "index.html").is_file():
        return {}
    files = [folder / "index.html", folder / "favicon.svg", *sorted((folder / "assets").iterdir())]
    return {file.relative_to(folder).as_posix(): _read(file) for file in files if file.suffix in _TYPES}


def build_router(folder: Path | None = None) -> APIRouter:
    """Build the routes of the page out of what is in a folder now; None: where `web/build.py` puts it."""
    router = APIRouter(include_in_schema=False)
    files = read_files(folder or FOLDER)

    @router.get("/")
    async def show_page(request: Request) -> Response:
        """Return the page, or what to do where it was not built."""
        page = files.get("index.html")
        if page is None:
            return HTMLResponse(_NOT_BUILT, 404, _HEADERS | _ASK)
        return _answer(request, page, _ASK)

    if files:

        @router.get(ICON)
        async def get_icon(request: Request) -> Response:
            """Return the icon of the browser's tab."""
            return _answer(request, files[ICON.removeprefix("/")], _ASK)

        @router.get(ASSETS + "{name}")
        async def get_asset(request: Request, name: str) -> Response:
            """Return a script or a style of the page."""
            if (file := files.get(f"assets/{name}")) is None:
                return Response("The page has been updated: reload it.\n", 404, _ASK, "text/plain")
            return _answer(request, file, _KEEP if _HASHED.search(name) else _ASK)

    return router


def _answer(request: Request, file: PageFile, caching: dict[str, str]) -> Response:
    coding, content = file.choose(request.headers.get("accept-encoding", ""))
    headers = _HEADERS | caching | {"ETag": f'"{file.tag}{coding or ""}"', "Vary": "Accept-Encoding"}
    if is_known(headers, request.headers.getlist("if-none-match")):
        return Response(status_code=304, headers=headers)
    if coding is not None:
        headers["Content-Encoding"] = coding
    return Response(content, headers=headers, media_type=file.media_type)


def _read(file: Path) -> PageFile:
    content = file.read_bytes()
    coded = {
        coding: beside.read_bytes()
        for coding, suffix in _CODINGS.items()
        if (beside := file.with_name(file.name + suffix)).is_file()
    }
    return PageFile(_TYPES[file.suffix], hashlib.blake2b(content, digest_size=12).hexdigest(), content, coded)


def _read_codings(accepted: str) -> set[str]:
    """Read `Accept-Encoding`: the codings that are named, but for those with `q=0`."""
    codings = set()
    for item in accepted.lower().split(","):
        name, _, weight = item.replace(" ", "").partition(";q=")
        if name and (not weight or weight.strip("0.") != ""):
            codings.add(name)
    return codings
