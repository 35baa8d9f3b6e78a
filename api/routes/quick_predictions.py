"""Answers plain predictions of small bodies on their connection, without the app; `POST /predict` answers all others.

An answer has the same bytes as that of the app, which a test compares.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

from starlette.datastructures import State

from api.access.identity import Identity
from api.access.route_scopes import scopes_of
from api.access.security_headers import JSON_LINES
from api.http.admission import SMALL_BYTES
from api.http.quick_route import Question, Reply
from api.http.sites import HostNames
from api.observability.metrics import Metrics
from api.observability.requests import identify, kind_of_model
from api.routes.queries import MAX_REFERENCE
from api.serving.interface import PlainAnswer
from trainyard import tracing
from trainyard.artifacts.checkpoints import LATEST
from trainyard.errors import ServiceError
from trainyard.settings import Settings

log = logging.getLogger(__name__)

_PATH = "/predict"
_UNUSUAL = frozenset(  # a header that something but this module looks at
    {
        b"x-trainyard-sticky",
        b"x-trainyard-timeout-ms",
        b"transfer-encoding",
        b"expect",
        b"upgrade",
        b"origin",
        b"sec-fetch-site",
    }
)
_PLAIN_NUMBER = re.compile("[1-9][0-9]{0,2}")


class QuickPredictions:
    """See `Answerer`."""

    def __init__(self, settings: Settings, metrics: Metrics, state: State) -> None:
        """Make it.

        Args:
            settings: of the API.
            metrics: that requests are counted in.
            state: of the app, with its services once it has started.
        """
        self._metrics, self._state = metrics, state
        self._accepts_host = HostNames(settings).accept if settings.admin_key is None else None
        self._needed = scopes_of("POST", _PATH)
        self._counts: dict[tuple[int, str, str], list[float]] = {}  #: what the metrics are not told of yet
        self._most_bytes = min(SMALL_BYTES, settings.max_upload_bytes)

    def read(self, scope: Any, identity: Identity) -> Question | None:
        """See `Answerer`."""
        if scope["path"] != _PATH or scope["method"] != "POST" or tracing.is_on() or identity.can_end:
            return None
        headers = dict(scope["headers"])
        if len(headers) != len(scope["headers"]) or not _UNUSUAL.isdisjoint(headers):
            return None
        length = headers.get(b"content-length", b"")
        if not length.isdigit() or int(length[:20]) > self._most_bytes or not _is_image(headers.get(b"content-type")):
            return None
        host = headers.get(b"host")
        if self._accepts_host is not None and host and not self._accepts_host(host.decode("latin-1")):
            return None
        if self._needed is not None and not identity.may_any(self._needed):
            return None
        if (asked := _read_query(scope["query_string"])) is None:
            return None
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        return Question(identity.owner, *asked, identify(given), time.perf_counter())

    def ask(
        self, question: Question, body: bytes, then: Callable[[Reply | ServiceError], None]
    ) -> Callable[[], object]:
        """See `Answerer`."""

        def end(answer: PlainAnswer | ServiceError) -> None:
            then(self._reply(question, answer))

        try:
            engine = self._state.services.engine
            give_up = engine.predict_plainly(question.owner, question.model, body, question.top_k, end)
        except Exception:
            log.exception("a prediction failed")
            end(ServiceError())
            return _nothing

        def leave() -> None:
            give_up()
            self._count(question, 499, "client_gone")

        return leave

    def _reply(self, question: Question, answer: PlainAnswer | ServiceError) -> Reply | ServiceError:
        if isinstance(answer, ServiceError):
            if answer.status >= 500 and answer.status not in (503, 504):
                log.error("a request failed: %s", answer.code, extra={"request_id": question.request_id})
            self._count(question, answer.status, answer.code)
            return answer
        self._count(question, 200, "ok")
        total_ms = round(1000 * (time.perf_counter() - question.began), 3)
        named = f"{JSON_LINES}x-trainyard-checkpoint: {answer.checkpoint}\r\nx-request-id: {question.request_id}\r\n"
        return Reply(named.encode("latin-1"), b"%b%b}}" % (answer.text, repr(total_ms).encode()))

    def _count(self, question: Question, status: int, code: str) -> None:
        """Count a request: the metrics are told once for all that end in the same round of the event loop."""
        if not self._counts:
            asyncio.get_running_loop().call_soon(self._tell_counts)
        alike = self._counts.setdefault((status, code, _kind_of_model(question.model)), [])
        alike.append(time.perf_counter() - question.began)

    def _tell_counts(self) -> None:
        counts, self._counts = self._counts, {}
        for (status, code, model), seconds in counts.items():
            self._metrics.answered_all(method="POST", route=_PATH, status=status, code=code, seconds=seconds)
            self._metrics.predicted(model=model, code=code, requests=len(seconds))


_kind_of_model = lru_cache(maxsize=1024)(kind_of_model)


@lru_cache(maxsize=256)
def _is_image(content_type: bytes | None) -> bool:
    kind = (content_type or b"").partition(b";")[0].strip().lower()
    return kind == b"application/octet-stream" or kind.startswith(b"image/")


@lru_cache(maxsize=1024)
def _read_query(query: bytes) -> tuple[str, int] | None:
    """Return the model and how many classes to name. None: it asks for more, or not as most do."""
    given = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    values = dict(given)
    model, top_k = values.get("model", LATEST), values.get("top_k", "5")
    if not values.keys() <= {"model", "top_k"} or len(model) > MAX_REFERENCE or not _PLAIN_NUMBER.fullmatch(top_k):
        return None
    return model, int(top_k)


def _nothing() -> None:
    """Do nothing: it is answered already."""
