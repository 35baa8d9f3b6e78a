"""The error that the client raises when the API refuses a request."""

from __future__ import annotations

from typing import Any

import httpx

_SEND_AGAIN = frozenset({408, 409, 423, 460, 502, 503, 504})  #: of an upload: it may be accepted later, or elsewhere


class ApiError(Exception):
    """The API refused a request. `code` is for programs; the message says what to do."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        error = body.get("error", {})
        self.status = status
        self.code: str = error.get("code", "unknown")
        self.param: str | None = error.get("param")
        self.request_id: str | None = error.get("request_id")
        super().__init__(f"{status} {self.code}: {error.get('message', 'no message')}")

    @property
    def is_worth_another_try(self) -> bool:
        """Whether the same upload may go on a little later."""
        return self.status in _SEND_AGAIN


def check(answer: httpx.Response) -> None:
    """Raise what an answer says.

    Raises:
        ApiError: it is a refusal.
    """
    if answer.status_code >= 400:
        try:
            body = answer.json()
        except ValueError:
            body = {}
        raise ApiError(answer.status_code, body)
