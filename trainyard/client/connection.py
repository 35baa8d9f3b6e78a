"""The client's connection to a yard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from trainyard.client.errors import check

Json = dict[str, Any]

_FIRST_BYTE_S = 600.0  # of a download: a format may be made first


class Connection:
    """One connection to a yard. Not safe to share between threads."""

    def __init__(self, url: str, *, key: str | None = None, timeout_s: float = 60) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_s, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def _request(self, method: str, path: str, **kw: Any) -> Json:
        answer = self._http.request(method, path, **kw)
        check(answer)
        body: Json = answer.json()
        return body

    def _iterate(self, path: str, filters: Json) -> Iterator[Json]:
        """Yield the entries of a list, page by page."""
        wanted = {key: value for key, value in filters.items() if value is not None} | {"limit": 100}
        while True:
            page = self._request("GET", path, params=wanted)
            yield from page["data"]
            if not page["has_more"]:
                return
            wanted["after"] = page["last_id"]

    def _download(
        self, path: str, target: Path, *, params: Json, on_received: Callable[[int, int], None] | None = None
    ) -> None:
        """Write an answer's body to a file, complete or not at all."""
        draft = target.with_name(f".{target.name}.part")
        timeout = httpx.Timeout(self._http.timeout.connect, read=_FIRST_BYTE_S)
        try:
            with self._http.stream("GET", path, params=params, timeout=timeout) as answer:
                if answer.status_code >= 400:
                    answer.read()
                    check(answer)
                total = int(answer.headers.get("Content-Length", 0))
                with draft.open("wb") as file:
                    for piece in answer.iter_bytes():
                        file.write(piece)
                        if on_received is not None:
                            on_received(file.tell(), total)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
