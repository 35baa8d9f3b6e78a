"""Refuses requests from pages of other sites; pure ASGI, before the key is checked.

A browser sends whatever a page asks it to, to any address that its machine can reach. So a write from another site's
page is refused. A yard without a key also answers only under its own names: a page whose name was made to mean this
machine ("DNS rebinding") sends that name as `Host`. Programs (curl, our client) send neither `Origin` nor
`Sec-Fetch-Site`, and are accepted.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.errors import build_response
from trainyard.errors import CrossSiteRefused, HostRefused, ServiceError
from trainyard.settings import Settings

READS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
PROBES = frozenset({"/healthz", "/readyz"})  #: a load balancer asks for them by any address; they tell nothing
_CLOSE = {"Connection": "close"}  # the body is not read
_PORTS = {"http": 80, "https": 443}

Place = tuple[str, int | None]  #: a host's name, in lower case, and its port where it is not the scheme's own


class HostNames:
    """The names under which a yard without a key answers."""

    def __init__(self, settings: Settings) -> None:
        names = {settings.host, *settings.trusted_hosts.split(",")}
        self._own = {name.strip().lower().strip("[]") for name in names} - {""}
        self.accept = lru_cache(maxsize=256)(self._accept)

    def _accept(self, host: str) -> bool:
        """Whether a request's `Host` is one of them."""
        name = place_of(f"http://{host}")[0]
        return name in self._own or is_loopback(name)


class SiteGuard:
    """Refuses what a page of another site sends."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._names = app, HostNames(settings)
        self._asks_for_a_key = settings.admin_key is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        refusal = self._judge(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await build_response(refusal, _CLOSE)(scope, receive, send)

    def _judge(self, scope: Scope) -> ServiceError | None:
        headers = Headers(scope=scope)
        host = headers.get("host")
        if not self._asks_for_a_key and scope["path"] not in PROBES and host and not self._names.accept(host):
            return HostRefused(
                f"Host is {host[:100]!r}: a yard without a key answers only as localhost, and under the names in "
                "TRAINYARD_TRUSTED_HOSTS. Add this one there, or set TRAINYARD_ADMIN_KEY",
                param="Host",
            )
        if scope["method"] not in READS:
            return _judge_write(headers, host)
        return None


def _judge_write(headers: Headers, host: str | None) -> ServiceError | None:
    """Refuse a write from another site's page.

    Browsers have sent `Sec-Fetch-Site` since 2020 (Safari: 2023); an older one sends the page's `Origin`.
    """
    if (site := headers.get("sec-fetch-site")) is not None:
        foreign = site not in {"same-origin", "none"}
        return CrossSiteRefused(param="Sec-Fetch-Site") if foreign else None
    origin = headers.get("origin")
    if origin is None or (host and place_of(origin) == place_of(f"{_scheme_of(origin)}://{host}")):
        return None
    return CrossSiteRefused(
        f"Origin is {origin[:100]!r}, Host {(host or '')[:100]!r}: pages of other sites may not change anything here",
        param="Origin",
    )


def place_of(url: str) -> Place:
    """Return host and port of a URL; nothing if it can't be parsed, like `null`, the origin of a page without one."""
    try:
        parts = urlsplit(url)
        port = parts.port
        return (parts.hostname or "", None if port == _PORTS.get(parts.scheme) else port)
    except ValueError:
        return ("", 0)


def _scheme_of(url: str) -> str:
    """Return `https` or `http`. A proxy in front may have removed TLS, so only the port is compared."""
    return "https" if url.lower().startswith("https:") else "http"


def is_loopback(name: str) -> bool:
    """Whether a host name can only mean this machine."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
