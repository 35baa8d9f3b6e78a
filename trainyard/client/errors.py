"""The errors that the client raises when the API refuses a request, or a job does not succeed.

TrainyardError
├── ApiError               the API refused; `code` says why, for programs
│   ├── InvalidRequest     400, 413, 415, 422: what was sent can't be used
│   ├── KeyRefused         401: the yard asks for a key, or does not know this one
│   ├── NotAllowed         403, 421: the key may not do that, or the request came from elsewhere
│   ├── NotFound           404, 410, 416: there is no such thing (any more)
│   ├── Conflict           409, 412, 423: it can't be done in this state
│   ├── QuotaExceeded      402, 507: there is no room for it
│   ├── TooManyRequests    429: later; `retry_after_s`
│   └── Unavailable        5xx: the yard can't answer now; `retry_after_s`
├── DownloadDamaged        what was downloaded is not what the yard said it is
└── JobFailed              a job that was waited for failed or was cancelled
"""

from __future__ import annotations

from typing import Any

import httpx

_SEND_AGAIN = frozenset({408, 409, 423, 460, 502, 503, 504})  #: of an upload: it may be accepted later, or elsewhere
_ASK_AGAIN = frozenset({429, 502, 503, 504})  #: of any request that may be repeated


class TrainyardError(Exception):
    """What the client raises, but for a connection that fails: that is an `httpx.TransportError`."""


class ApiError(TrainyardError):
    """The API refused a request. `code` is for programs; the message says what to do."""

    def __init__(self, status: int, body: dict[str, Any], retry_after_s: float | None = None) -> None:
        error = body.get("error", {})
        self.status = status
        self.code: str = error.get("code", "unknown")
        self.param: str | None = error.get("param")
        self.request_id: str | None = error.get("request_id")
        self.retry_after_s = retry_after_s
        super().__init__(f"{status} {self.code}: {error.get('message', 'no message')}")

    @property
    def is_worth_another_try(self) -> bool:
        """Whether the same upload may go on a little later."""
        return self.status in _SEND_AGAIN

    @property
    def may_pass(self) -> bool:
        """Whether the same request may be answered a little later."""
        return self.status in _ASK_AGAIN


class InvalidRequest(ApiError):
    """What was sent can't be used; `param` names it."""


class KeyRefused(ApiError):
    """The yard asks for a key, or does not know this one."""


class NotAllowed(ApiError):
    """The key may not do that, or the yard takes no such request from here."""


class NotFound(ApiError):
    """There is no such thing, or no longer."""


class Conflict(ApiError):
    """It can't be done in the present state."""


class QuotaExceeded(ApiError):
    """There is no room for it."""


class TooManyRequests(ApiError):
    """Too many requests came at once: `retry_after_s` says when the next one may."""


class Unavailable(ApiError):
    """The yard can't answer now."""


class DownloadDamaged(TrainyardError):
    """What was downloaded is not what the yard said it is."""


class JobFailed(TrainyardError):
    """A job that was waited for failed or was cancelled."""

    def __init__(self, job_id: str, state: str, code: str | None, message: str) -> None:
        self.job_id = job_id
        self.state = state
        self.code = code
        super().__init__(f"job {job_id} {'failed' if state == 'failed' else f'was {state}'}: {message}")


_CLASSES: dict[int, type[ApiError]] = {
    **dict.fromkeys((400, 413, 414, 415, 422, 431), InvalidRequest),
    401: KeyRefused,
    **dict.fromkeys((403, 421), NotAllowed),
    **dict.fromkeys((404, 410, 416), NotFound),
    **dict.fromkeys((409, 412, 423), Conflict),
    **dict.fromkeys((402, 507), QuotaExceeded),
    429: TooManyRequests,
}


def read_error(answer: httpx.Response) -> ApiError:
    """Return the error that a refusal means."""
    try:
        body = answer.json()
    except ValueError:
        body = {}
    status = answer.status_code
    kind = _CLASSES.get(status, Unavailable if status >= 500 else ApiError)
    return kind(status, body if isinstance(body, dict) else {}, _read_seconds(answer.headers.get("Retry-After")))


def check(answer: httpx.Response) -> None:
    """Raise what an answer says.

    Raises:
        ApiError: it is a refusal.
    """
    if answer.status_code >= 400:
        raise read_error(answer)


def _read_seconds(text: str | None) -> float | None:
    try:
        return None if text is None else max(0.0, float(text))
    except ValueError:
        return None  # a date, which no yard sends
