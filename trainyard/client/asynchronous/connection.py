"""The client's connection to a yard: requests, their repetition, pages, downloads."""

from __future__ import annotations

import random
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from trainyard.client.answers import Answer
from trainyard.client.asynchronous.downloading import download
from trainyard.client.asynchronous.waiting import sleep
from trainyard.client.environment import find_address
from trainyard.client.errors import NotFound, read_error
from trainyard.client.kinds import FIRST_WAIT_S, LONGEST_WAIT_S, Json, OnProgress

AnyAnswer = TypeVar("AnyAnswer", bound=Answer)

RATE_LIMITED = "rate_limited"
_REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE"})
#: What of a connection means that a request may have reached nobody, or its answer was cut.
_LOST = (httpx.ConnectError, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)


class AsyncConnection:
    """One connection to a yard.

    Args:
        url: the yard's address; None: what `TRAINYARD_URL` says, else a yard on this machine, `http://127.0.0.1:8000`.
        key: sent with every request; None: what `TRAINYARD_KEY` says, if anything; an empty one: no key.
        timeout_s: seconds without a byte, after which a request fails.
        retries: how often a request that may be repeated is sent again, if the connection is lost or the yard can't
            answer just now. The yard's `Retry-After` says when, up to half a minute. A request that makes something
            carries an `Idempotency-Key`, so that it makes one thing however often it is sent.
    """

    def __init__(
        self, url: str | None = None, *, key: str | None = None, timeout_s: float = 60, retries: int = 3
    ) -> None:
        url, key = find_address(url, key)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.AsyncClient(base_url=url, headers=headers, timeout=timeout_s, trust_env=False)
        self._retries = retries

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        await self._http.aclose()

    async def _send(self, method: str, path: str, *, may_repeat: bool | None = None, **kw: Any) -> httpx.Response:
        """Send a request, again where that is harmless, and return its answer.

        One that the yard's limit of requests refused has done nothing, so any may be sent again.

        Args:
            method: of HTTP.
            path: below the yard's address.
            may_repeat: whether it is harmless to send it again; None: as the method says.
            kw: for httpx.

        Raises:
            ApiError: the API refuses it.
            httpx.TransportError: the yard can't be reached.
        """
        may_repeat = method in _REPEATABLE if may_repeat is None else may_repeat
        for number in range(1, self._retries + 2):
            is_last = number == self._retries + 1
            wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (number - 1)) * random.uniform(0.75, 1.25)
            try:
                answer = await self._http.request(method, path, **kw)
            except _LOST:
                if is_last or not may_repeat:
                    raise
            else:
                if answer.status_code < 400:
                    return answer
                error = read_error(answer)
                if isinstance(error, NotFound) and method == "DELETE" and number > 1:
                    return answer  # the try whose answer was lost has removed it
                if is_last or not error.may_pass or not (may_repeat or error.code == RATE_LIMITED):
                    raise error
                wait_s = wait_s if error.retry_after_s is None else min(LONGEST_WAIT_S, error.retry_after_s)
            await sleep(wait_s)
        raise AssertionError("the last try returns or raises")

    async def _request(self, method: str, path: str, **kw: Any) -> Json:
        body: Json = (await self._send(method, path, **kw)).json()
        return body

    async def _read(self, kind: type[AnyAnswer], method: str, path: str, **kw: Any) -> AnyAnswer:
        return kind.read(await self._request(method, path, **kw))

    async def _make(
        self, kind: type[AnyAnswer], path: str, body: Json, idempotency_key: str | None = None
    ) -> AnyAnswer:
        """Make something, once however often the request is sent."""
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        return await self._read(kind, "POST", path, json=body, headers=headers, may_repeat=True)

    async def _iterate(
        self, kind: type[AnyAnswer], path: str, filters: Json | None = None, *, at_a_time: int = 100
    ) -> AsyncIterator[AnyAnswer]:
        """Yield the entries of a list, page by page."""
        wanted = without_none(filters or {}) | {"limit": at_a_time}
        while True:
            page = await self._request("GET", path, params=wanted)
            for entry in page["data"]:
                yield kind.read(entry)
            if not page.get("has_more"):
                return
            wanted["after"] = page["last_id"]

    async def _first_page(self, kind: type[AnyAnswer], path: str, filters: Json | None = None) -> list[AnyAnswer]:
        """Return the first hundred entries of a list."""
        page = await self._request("GET", path, params=without_none(filters or {}) | {"limit": 100})
        return [kind.read(entry) for entry in page["data"]]

    async def _download(self, path: str, target: Path, params: Json, on_progress: OnProgress | None = None) -> None:
        """Write an answer's body to a file, complete or not at all. After a cut it goes on where it stopped."""
        await download(self._http, path, target, params, retries=self._retries, on_received=on_progress)


def without_none(values: Json) -> Json:
    """Return the values that are given."""
    return {name: value for name, value in values.items() if value is not None}
