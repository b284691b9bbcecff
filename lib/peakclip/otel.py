"""Real spans by OpenTelemetry, sent as OTLP over HTTP. Imported only when tracing is on: the extra `otel`.

Everything about where spans go and how many are kept is said by OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_*,
OTEL_TRACES_SAMPLER, OTEL_BSP_*, OTEL_RESOURCE_ATTRIBUTES); nothing of it is repeated here.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterable
from importlib import metadata
from types import TracebackType
from typing import Any, Final, Self

import structlog
from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from peakclip.store import name_of
from peakclip.tracing import Kind, Span, is_sampled, parse

log = structlog.get_logger()

MOST_LINKS: Final = 128  # OpenTelemetry's own limit
SHUTDOWN_SECONDS: Final = 3.0
_STATEMENT: Final = re.compile(
    r"\b(select|insert|update|delete|begin|commit|rollback|savepoint|release|copy)\b", re.I
)


class RecordedSpan(Span):
    """A span of OpenTelemetry, sampled or not."""

    __slots__ = ("_attached", "_lasting", "_span")

    def __init__(self, span: trace.Span, *, lasting: bool, has_parent: bool) -> None:
        self._span = span
        self._lasting = lasting
        found = span.get_span_context()
        # A trace that begins here and is not recorded is nobody's business further on: nothing is carried.
        carried = found.trace_flags.sampled or has_parent
        super().__init__(_text(found) if carried else "")
        self._attached: Any = None

    def __enter__(self) -> Self:
        self._attached = context.attach(trace.set_span_in_context(self._span))
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, exc, trace)
        context.detach(self._attached)
        if self._lasting:
            return
        if kind is not None and issubclass(kind, Exception):
            self.fail(kind.__name__)
        self._span.end()

    def set(self, name: str, value: str | int | float | bool) -> None:
        self._span.set_attribute(name, value)

    def fail(self, kind: str) -> None:
        self._span.set_attribute("error.type", kind)
        self._span.set_status(Status(StatusCode.ERROR))

    def end(self) -> None:
        self._span.end()


class OpenTelemetry:
    """Makes spans and sends them. `processor` is for tests; by default batches go to the collector."""

    def __init__(
        self,
        process: str,
        processor: SpanProcessor | None = None,
        *,
        shutdown_seconds: float = SHUTDOWN_SECONDS,
    ) -> None:
        # Without its exit handler: that would wait for a collector that is away, after our own shutdown has given up.
        self._provider = TracerProvider(resource=_resource(process), shutdown_on_exit=False)
        self._provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
        self._shutdown_seconds = shutdown_seconds
        self._tracer = self._provider.get_tracer("peakclip", metadata.version("peakclip"))
        log.info("tracing_on")

    def start(
        self, name: str, kind: Kind, parent: str, links: Iterable[str], *, lasting: bool
    ) -> RecordedSpan:
        linked = _contexts(links)
        within: context.Context | None = None  # the current one
        if parent:
            within = _within(_context(parent))
        elif linked and not trace.get_current_span().get_span_context().is_valid:
            within = _within(linked[0])
        span = self._tracer.start_span(
            name,
            within,
            SpanKind[kind.upper()],
            links=[trace.Link(one) for one in linked],
        )
        has_parent = trace.get_current_span(within).get_span_context().is_valid
        return RecordedSpan(span, lasting=lasting, has_parent=has_parent)

    def watch(self, connection: Any) -> None:
        connection.add_query_logger(self._statement_done)

    def _statement_done(self, record: Any) -> None:
        """A span for a statement that has ended, of whatever span was current when it did.

        No comment with the trace's id is put into the SQL (sqlcommenter): it would make the text of each statement
        a new one, and every statement would be prepared and planned anew.
        """
        parent = trace.get_current_span().get_span_context()
        if not parent.trace_flags.sampled:
            return
        ended = time.time_ns()
        found = _STATEMENT.search(record.query)
        operation = found[1].upper() if found else "OTHER"
        span = self._tracer.start_span(
            name_of(record.query) or operation,
            kind=SpanKind.CLIENT,
            # Both the stable names and those before them: collectors of all ages are about.
            attributes={
                "db.system.name": "postgresql",
                "db.system": "postgresql",
                "db.operation.name": operation,
                "db.operation": operation,
                "db.namespace": record.conn_params.database or "",
            },
            start_time=ended - int(record.elapsed * 1e9),
        )
        if record.exception is not None:
            span.set_attribute("error.type", type(record.exception).__name__)
            span.set_status(Status(StatusCode.ERROR))
        span.end(ended)

    def shutdown(self) -> None:
        """In a thread that may be left behind: the exporter itself waits for up to half a minute."""
        thread = threading.Thread(target=self._provider.shutdown, name="otel-shutdown", daemon=True)
        thread.start()
        thread.join(self._shutdown_seconds)
        if thread.is_alive():
            log.warning("spans_lost", reason="the collector does not answer")


def _resource(process: str) -> Resource:
    """Named after the process, unless OpenTelemetry's variables name it."""
    named = os.environ.get(OTEL_SERVICE_NAME) or "service.name=" in os.environ.get(
        OTEL_RESOURCE_ATTRIBUTES, ""
    )
    attributes: dict[str, str | int] = {
        "service.version": metadata.version("peakclip"),
        "process.pid": os.getpid(),
    }
    if not named:
        attributes["service.name"] = f"peakclip-{process}"
    return Resource.create(attributes)


def _contexts(links: Iterable[str]) -> list[SpanContext]:
    """The distinct contexts of a batch: those that are sampled, or else one, so that its decision is followed."""
    sampled: dict[str, None] = {}
    other = ""
    for link in links:
        one = parse(link) if link else ""  # a header of a message is not always ours
        if is_sampled(one):
            sampled[one] = None
            if len(sampled) == MOST_LINKS:
                break
        else:
            other = other or one
    return [_context(one) for one in sampled or ([other] if other else [])]


def _context(traceparent: str) -> SpanContext:
    _, trace_id, span_id, flags = traceparent.split("-")
    return SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16))
    )


def _within(parent: SpanContext) -> context.Context:
    return trace.set_span_in_context(trace.NonRecordingSpan(parent), context.Context())


def _text(one: SpanContext) -> str:
    return f"00-{one.trace_id:032x}-{one.span_id:016x}-{int(one.trace_flags) & 3:02x}"
