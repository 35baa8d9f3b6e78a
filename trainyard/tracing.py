"""Traces by OpenTelemetry: one from `POST /jobs` to the job's last checkpoint, one from `/predict` to its batch.

A process that was not given an endpoint traces nothing: `span` and `current` then return at once, and OpenTelemetry is
not even imported. Contexts travel as W3C `traceparent` texts: in a request's headers, in a job's row, and between the
processes of an API.
"""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from trainyard.build import build_id
from trainyard.settings import Settings

if TYPE_CHECKING:
    from opentelemetry import trace as otel
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

EXPORT_S = 3.0  #: that one request to the collector may take
STOP_S = 3.0  #: that a process which ends waits for its last spans to be taken

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Value = str | int | float | bool

_FORM = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_SAMPLED = 1


class Span:
    """A span that has begun. Of a process that traces nothing it is a thing that ignores everything."""

    def name(self, name: str) -> None:
        """Give it another name, one that is only known at its end."""

    def set(self, attributes: Mapping[str, Value]) -> None:
        """Add attributes."""

    def fail(self, reason: str) -> None:
        """Mark it as failed."""


class _Nothing(Span, AbstractContextManager[Span]):
    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


_NOTHING = _Nothing()


def check(settings: Settings) -> None:
    """Check that this process can trace if it is told to.

    Raises:
        ValueError: an endpoint is given, and OpenTelemetry is not installed.
    """
    if settings.otlp_endpoint is not None and importlib.util.find_spec("opentelemetry.exporter.otlp") is None:
        raise ValueError("TRAINYARD_OTLP_ENDPOINT needs OpenTelemetry: install trainyard with the extra `otel`")


def start(settings: Settings, service: str, exporter: SpanExporter | None = None) -> None:
    """Trace from now on, if the settings name an endpoint. Call it once in a process, before its threads start.

    Args:
        settings: with `otlp_endpoint`.
        service: the name of the process in the traces.
        exporter: for tests: what takes the spans.
    """
    global _running
    if settings.otlp_endpoint is not None or exporter is not None:
        _running = _Running(settings, service, exporter)


def stop() -> None:
    """Hand over what has ended and trace nothing more. A collector that does not answer holds it up for `STOP_S`."""
    global _running
    running, _running = _running, None
    if running is not None:
        running.stop()


def is_on() -> bool:
    """Whether this process traces."""
    return _running is not None


def span(
    name: str,
    *,
    parent: str | None = None,
    links: Sequence[str] = (),
    kind: Kind = "internal",
    attributes: Mapping[str, Value] | None = None,
) -> AbstractContextManager[Span]:
    """Return a span that lasts as long as a `with` block, in which it is the current one.

    Args:
        name: of the work.
        parent: the context of the span that it belongs to; None: the current one, if there is one.
        links: contexts of other spans that it has to do with.
        kind: by OpenTelemetry's words.
        attributes: known at the beginning.
    """
    if _running is None:
        return _NOTHING
    return _running.span(name, parent, links, kind, attributes)


def current() -> str | None:
    """Return the context of the current span. None: there is none, or it is not recorded."""
    return None if _running is None else _running.current()


def record(
    name: str,
    began_at: float,
    *,
    parent: str | None = None,
    links: Sequence[str] = (),
    attributes: Mapping[str, Value] | None = None,
    ended_at: float | None = None,
) -> str | None:
    """Record a span of work that is over, and return its context. None: this process does not record it.

    Args:
        name: of the work.
        began_at: by `time.perf_counter`.
        parent: the context of the span that it belongs to; None: the current one, if there is one.
        links: contexts of other spans that it has to do with.
        attributes: of the span.
        ended_at: by the same clock; None: now.
    """
    return None if _running is None else _running.record(name, began_at, parent, links, attributes, ended_at)


class _Running:
    """The tracer of a process that traces."""

    def __init__(self, settings: Settings, service: str, exporter: SpanExporter | None) -> None:
        from opentelemetry import trace as otel
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

        if exporter is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            endpoint = f"{(settings.otlp_endpoint or '').rstrip('/')}/v1/traces"
            exporter = OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_S)
        facts = {
            "service.name": service,
            "service.version": build_id(),
            "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
        }
        self._otel = otel
        self._provider: TracerProvider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(settings.otlp_sample_share)),
            resource=Resource.create(facts),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("trainyard", build_id())
        self._clock_ns = time.time_ns() - time.perf_counter_ns()  # what to add to `perf_counter` for the time of day

    def stop(self) -> None:
        """See `stop`."""
        ending = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        ending.start()
        ending.join(STOP_S)

    def span(
        self, name: str, parent: str | None, links: Sequence[str], kind: Kind, attributes: Mapping[str, Value] | None
    ) -> AbstractContextManager[Span]:
        """See `span`."""
        return _Begun(
            self._tracer.start_as_current_span(
                name,
                context=self._context(parent),
                kind=self._otel.SpanKind[kind.upper()],
                attributes=dict(attributes or {}),
                links=self._links(links),
                record_exception=False,  # its message may quote what a client sent
                set_status_on_exception=False,
            ),
        )

    def current(self) -> str | None:
        """See `current`."""
        return _write(self._otel.get_current_span().get_span_context())

    def record(
        self,
        name: str,
        began_at: float,
        parent: str | None,
        links: Sequence[str],
        attributes: Mapping[str, Value] | None,
        ended_at: float | None,
    ) -> str | None:
        """See `record`."""
        span = self._tracer.start_span(
            name,
            context=self._context(parent),
            attributes=dict(attributes or {}),
            links=self._links(links),
            start_time=self._clock_ns + round(1e9 * began_at),
        )
        span.end(self._clock_ns + round(1e9 * (time.perf_counter() if ended_at is None else ended_at)))
        return _write(span.get_span_context())

    def _context(self, traceparent: str | None) -> Context | None:
        found = None if traceparent is None else self._read(traceparent)
        return None if found is None else self._otel.set_span_in_context(self._otel.NonRecordingSpan(found))

    def _links(self, traceparents: Sequence[str]) -> list[otel.Link]:
        return [self._otel.Link(found) for text in traceparents if (found := self._read(text)) is not None]

    def _read(self, traceparent: str) -> otel.SpanContext | None:
        """Read a context that somebody sent. None: it is not well formed."""
        parts = _FORM.fullmatch(traceparent)
        if parts is None:
            return None
        trace_id, span_id, flags = (int(part, 16) for part in parts.groups())
        context = self._otel.SpanContext(trace_id, span_id, is_remote=True, trace_flags=self._otel.TraceFlags(flags))
        return context if context.is_valid else None


class _Begun(Span, AbstractContextManager[Span]):
    """A span that is recorded."""

    def __init__(self, begun: AbstractContextManager[otel.Span]) -> None:
        self._begun = begun
        self._span: otel.Span | None = None

    def __enter__(self) -> Self:
        self._span = self._begun.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if kind is not None:
            self.fail(kind.__name__)
        return self._begun.__exit__(kind, error, trace)

    def name(self, name: str) -> None:
        assert self._span is not None
        self._span.update_name(name)

    def set(self, attributes: Mapping[str, Value]) -> None:
        assert self._span is not None
        self._span.set_attributes(dict(attributes))

    def fail(self, reason: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        assert self._span is not None
        self._span.set_status(Status(StatusCode.ERROR, reason))


_running: _Running | None = None  #: of this process; None: it traces nothing


def _write(context: otel.SpanContext) -> str | None:
    if not context.is_valid or not context.trace_flags & _SAMPLED:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
