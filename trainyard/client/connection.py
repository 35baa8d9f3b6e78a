"""The client's connection to a yard."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import httpx

from trainyard.client.errors import check

Json = dict[str, Any]


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
