"""Decides from a request's headers who it acts for: the bearer of a key, or a browser with a session.

Most requests are judged at once, from memory. Those whose key must be read from the database first wait for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.types import Scope

from api.access.identity import ADMINISTRATOR, STRANGER, Identity
from api.access.keyring import Keyring
from api.access.sessions import SETTINGS_KEY, SessionCookies, may_hold_session
from trainyard.access.key_text import digest_of, find_prefix, is_same
from trainyard.access.keys import KeyRecord
from trainyard.database.connection import Database
from trainyard.errors import ServiceError, Unauthenticated
from trainyard.settings import Settings

METRICS_PATH = "/metrics"  #: may have a key of its own, or none
SESSION_PATH = "/session"
_OPEN_OF_SESSION = frozenset({"POST", "DELETE"})  #: to sign in with a key, and to sign out with an expired session


@dataclass(frozen=True)
class _Credential:
    """A key of the database that a request names."""

    prefix: str
    digest: str | None  #: of the whole key; None: a session vouches for it
    expires_at: float | None = None  #: of the session


class Gate:
    """Lets requests in. It is made before the database is open; see `open`."""

    def __init__(self, settings: Settings, is_open: Callable[[str], bool]) -> None:
        """Make it.

        Args:
            settings: with the keys of the settings.
            is_open: whether everybody may ask for a path.
        """
        self._admin_key = settings.admin_key
        self._admin = _digest(settings.admin_key)
        self._metrics = _digest(settings.metrics_key)
        self._open_metrics = settings.open_metrics
        self._is_open = is_open
        self._keyring: Keyring | None = None
        self._cookies: SessionCookies | None = None  # None: the yard's secret is not read yet

    @property
    def needs_key(self) -> bool:
        """Whether the yard asks for a key at all."""
        return self._admin is not None

    @property
    def keyring(self) -> Keyring:
        """The keys of the database."""
        assert self._keyring is not None, "the gate is not open yet"
        return self._keyring

    def open(self, database: Database) -> None:
        """Begin to look keys up in a database."""
        self._keyring = Keyring(database)

    async def close(self) -> None:
        """End what goes on in the background."""
        if self._keyring is not None:
            await self._keyring.stop()

    def judge(self, scope: Scope) -> Identity | ServiceError | None:
        """Decide at once. None: the database must be asked, see `identify`."""
        named = self._read(scope)
        if not isinstance(named, _Credential):
            return named
        record = self.keyring.find(named.prefix)
        return None if record is None else _decide(named, record)

    async def identify(self, scope: Scope) -> Identity | ServiceError:
        """Decide, after a look into the database where that is needed."""
        if (judged := self.judge(scope)) is not None:
            return judged
        try:
            named = self._read(scope)
            if named is None:
                await self.load_cookies()
                named = self._read(scope)
            return Unauthenticated() if named is None else await self._settle(named)
        except ServiceError as exc:
            return exc

    async def identify_key(self, text: str) -> Identity | ServiceError:
        """Decide for the text of a key, as if a request had sent it."""
        try:
            return await self._settle(self._read_key(text.strip(), SESSION_PATH))
        except ServiceError as exc:
            return exc

    async def load_cookies(self) -> SessionCookies:
        """Return what makes the cookies of sessions.

        Raises:
            DatabaseUnavailable: the yard's secret can't be read.
        """
        if self._cookies is None:
            assert self._admin_key is not None, "there are no sessions where no key is asked for"
            secret = await self.keyring.read_yard_secret()
            self._cookies = SessionCookies(self._admin_key.get_secret_value(), secret)
        return self._cookies

    async def _settle(self, named: Identity | ServiceError | _Credential) -> Identity | ServiceError:
        if not isinstance(named, _Credential):
            return named
        return _decide(named, await self.keyring.look_up(named.prefix))

    def _read(self, scope: Scope) -> Identity | ServiceError | _Credential | None:
        """Read what a request was sent with. None: it has a session, and those can't be read yet."""
        path = scope["path"]
        if not self._is_locked(path):
            return ADMINISTRATOR
        if self._is_open(path) or (path == SESSION_PATH and scope["method"] in _OPEN_OF_SESSION):
            return STRANGER
        headers = Headers(scope=scope)
        if (authorization := headers.get("authorization")) is not None:
            scheme, _, text = authorization.partition(" ")
            return self._read_key(text.strip(), path) if scheme.lower() == "bearer" else Unauthenticated()
        cookies = "; ".join(headers.getlist("cookie"))
        return self._read_session(cookies) if self.needs_key and may_hold_session(cookies) else Unauthenticated()

    def _is_locked(self, path: str) -> bool:
        """Whether a path asks for a key: all do or none, but for the one of the metrics."""
        if path == METRICS_PATH:
            return not self._open_metrics and (self.needs_key or self._metrics is not None)
        return self.needs_key

    def _read_key(self, text: str, path: str) -> Identity | ServiceError | _Credential:
        digest = digest_of(text)
        known = [self._admin, self._metrics if path == METRICS_PATH else None]
        if True in [is_same(digest, key) for key in known if key is not None]:
            return ADMINISTRATOR
        prefix = find_prefix(text)
        return Unauthenticated() if prefix is None else _Credential(prefix, digest)

    def _read_session(self, cookies: str) -> Identity | ServiceError | _Credential | None:
        if self._cookies is None:
            return None
        if (session := self._cookies.read(cookies)) is None:
            return Unauthenticated()
        if session.prefix == SETTINGS_KEY:
            return Identity(ADMINISTRATOR.owner, ADMINISTRATOR.scopes, None, session.expires_at)
        return _Credential(session.prefix, None, session.expires_at)


def _decide(named: _Credential, record: KeyRecord | None) -> Identity | ServiceError:
    if record is None or (named.digest is not None and not is_same(named.digest, record.digest)):
        return Unauthenticated()
    return Identity(record.owner, record.scopes, record.prefix, named.expires_at)


def _digest(key: SecretStr | None) -> str | None:
    return None if key is None else digest_of(key.get_secret_value())
