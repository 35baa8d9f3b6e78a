"""What the tests of uploads share: requests of the tus protocol in one line each."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import httpx

from tests.api.served import Served

TUS = {"Tus-Resumable": "1.0.0"}
PATCH = TUS | {"Content-Type": "application/offset+octet-stream"}


def begin(served: Served, size: int | None, **headers: str) -> str:
    """Begin an upload; its path."""
    told = {"Upload-Defer-Length": "1"} if size is None else {"Upload-Length": str(size)}
    response = served.http.post("/uploads", headers=TUS | told | headers)
    assert response.status_code == 201, response.text
    return response.headers["location"]


def send(served: Served, path: str, offset: int, data: Any, **headers: str) -> httpx.Response:
    return served.http.patch(path, content=data, headers=PATCH | {"Upload-Offset": str(offset)} | headers)


def offset_of(served: Served, path: str) -> int:
    response = served.http.head(path, headers=TUS)
    assert response.status_code == 200, response.status_code
    return int(response.headers["upload-offset"])


def content_of(served: Served, path: str) -> bytes:
    return (served.settings.data_dir / path.strip("/") / "content").read_bytes()


def files_of(served: Served) -> list[str]:
    """What lies in the folder of uploads, but for its mark and what becomes one."""
    root = served.settings.data_dir / "uploads"
    found = [Path(place) / name for place, _, names in os.walk(root) for name in names]  # some vanish meanwhile
    return sorted(file.relative_to(root).as_posix() for file in found if "folder-id" not in file.name)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def folder_of(served: Served) -> Path:
    return served.settings.data_dir / "uploads"
