"""A browser's session: a signed cookie in place of the key, because neither an event stream nor a picture can send one.

The cookie says which key signed in and until when. Whoever knows the settings' key and the database's secret can check
it, so every process and replica of a yard can, and no other yard. The session ends with the key that signed in.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass

from itsdangerous import BadData, URLSafeSerializer

SESSION_S = 12 * 3600
SETTINGS_KEY = ""  #: what a session has as `prefix` that the settings' key began
_NAME = "trainyard_session_"
_MAX_LENGTH = 512  # of a value; ours are shorter


@dataclass(frozen=True)
class Session:
    """What a valid cookie says."""

    prefix: str  #: of the key that signed in
    expires_at: float  #: in seconds since 1970


class SessionCookies:
    """Makes and reads the cookies of one yard."""

    def __init__(self, admin_key: str, yard_secret: str, clock: Callable[[], float] = time.time) -> None:
        secret = hmac.digest(admin_key.encode(), f"trainyard session {yard_secret}".encode(), "sha256")
        self._signer = URLSafeSerializer(secret, "session", signer_kwargs={"digest_method": hashlib.sha256})
        self._clock = clock
        #: Cookies are shared by all ports of a host, so each yard has a name of its own.
        self.name = _NAME + hashlib.sha256(yard_secret.encode()).hexdigest()[:8]

    def begin(self, prefix: str) -> str:
        """Return the value of a new session's cookie."""
        expires_at = int(self._clock()) + SESSION_S
        return str(self._signer.dumps([prefix, expires_at]))

    def read(self, cookies: str) -> Session | None:
        """Return what the cookies of a request say. None: none of them is a session that goes on.

        Args:
            cookies: the request's header.
        """
        found = (self._read_value(value) for value in _values(cookies, self.name))
        return next(filter(None, found), None)

    def _read_value(self, value: str) -> Session | None:
        try:
            prefix, expires_at = self._signer.loads(value)
        except BadData:
            return None
        return Session(prefix, expires_at) if self._clock() < expires_at else None


def may_hold_session(cookies: str) -> bool:
    """Whether it is worth the while to read the cookies of a request."""
    return _NAME in cookies


def _values(cookies: str, name: str) -> list[str]:
    """Return the values of a cookie: there are several where one yard is reached under several paths."""
    pairs = (part.strip().partition("=") for part in cookies.split(";"))
    return [value for given, _, value in pairs if given == name and len(value) <= _MAX_LENGTH]
