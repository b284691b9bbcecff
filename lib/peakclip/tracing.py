"""Trace context (W3C `traceparent`) from a request through frames, queues, database and outbox to the effects.

    HTTP or NATS header ─▶ Order.traceparent ─▶ header of the order's message ─▶ outbox.headers ─▶ header of the event

Without OpenTelemetry, or while it is off, a valid `traceparent` is passed on as it came, and that is all. With the
extra `otel` and a collector (docs/howto/tracing.md) there are spans, made in `peakclip.otel`: one for each accepted
order, and one for each *batch* afterwards, with links to its orders; a span per order at every step would cost more
than the step. `tracestate` is not carried.

Off, everything here costs next to nothing: no span, no dictionary, and links are not even looked at.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Final, Literal, NoReturn, Protocol, Self

import structlog
from multidict import istr

from peakclip.settings import Settings

log = structlog.get_logger()

TRACEPARENT: Final = "traceparent"  # the header, in HTTP and in NATS
_HEADER: Final = istr(TRACEPARENT)  # the same, for a quicker look into HTTP's headers
Kind = Literal["internal", "server", "client", "producer", "consumer"]

_FORMAT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_SAMPLED: Final = 0x01
_RANDOM: Final = 0x02  # the trace id is random: the one other flag of version 00
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

_current: ContextVar[str] = ContextVar("traceparent", default="")


def parse(header: str) -> str:
    """A `traceparent` as it is passed on, in version 00; empty if it is not valid, and then a new trace begins.

    Of a later version only what version 00 knows is kept, as the recommendation asks.

    >>> parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    >>> parse("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03-what.comes.later")
    '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    >>> parse("00-00000000000000000000000000000000-b7ad6b7169203331-01")
    ''
    """
    found = _FORMAT.fullmatch(header.strip(" \t"))
    if found is None:
        return ""
    version, trace_id, span_id, flags, rest = found.groups()
    if version == "ff" or (version == "00" and rest is not None):
        return ""
    if not trace_id.strip("0") or not span_id.strip("0"):
        return ""
    known = _SAMPLED | _RANDOM if version == "00" else _SAMPLED
    return f"00-{trace_id}-{span_id}-{int(flags, 16) & known:02x}"


def incoming(headers: Mapping[str, str]) -> str:
    """The valid `traceparent` of a request or message, or an empty string. Two of them are none."""
    header = headers.get(_HEADER)
    if not header:
        return ""
    get_all = getattr(headers, "getall", None)  # HTTP's headers may repeat
    return "" if get_all is not None and len(get_all(TRACEPARENT)) > 1 else parse(header)


def is_sampled(traceparent: str) -> bool:
    """Whether a parsed `traceparent` asks for spans."""
    return bool(traceparent) and bool(int(traceparent[-2:], 16) & _SAMPLED)


def current_traceparent() -> str:
    """What to write into whatever is made now: an order, an outbox row, a message. Empty outside of every trace."""
    return _current.get()


class Span:
    """A piece of work within a trace. This one only passes the context on; with OpenTelemetry there are real ones.

    `with span:` makes it the current one and ends it. `begin` gives one that outlives the block: `end` ends it.
    """

    __slots__ = ("_token", "traceparent")

    def __init__(self, traceparent: str = "") -> None:
        self.traceparent = traceparent
        self._token: Token[str] | None = None

    def __enter__(self) -> Self:
        self._token = _current.set(self.traceparent)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _current.reset(self._token)
            self._token = None

    def set(self, name: str, value: str | int | float | bool) -> None:
        """Adds an attribute."""

    def fail(self, kind: str) -> None:
        """Marks the span as failed. `kind`: a status code or the name of an error, never a customer's data."""

    def end(self) -> None:
        """For a span from `begin`."""


class _Nothing(Span):
    """Off, and nothing to pass on: one for all, so it keeps no state."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        return


class Backend(Protocol):
    """What makes real spans."""

    def start(self, name: str, kind: Kind, parent: str, links: Iterable[str], *, lasting: bool) -> Span: ...

    def watch(self, connection: object) -> None: ...

    def shutdown(self) -> None: ...


_NOTHING: Final = _Nothing()
_backend: Backend | None = None


def is_on() -> bool:
    return _backend is not None


def span(name: str, *, kind: Kind = "internal", parent: str = "", links: Iterable[str] = ()) -> Span:
    """To be used as `with span(…)`. `parent` and `links` are parsed or empty; empty links are left out.

    Without a parent the span belongs to the current one, else to the first link that is sampled: a batch goes on in
    the trace of its first order, and is linked to all others.
    """
    if _backend is not None:
        return _backend.start(name, kind, parent, links, lasting=False)
    return Span(parent) if parent else _NOTHING


def begin(name: str, headers: Mapping[str, str]) -> Span | None:
    """A server's span that is ended by a call. None when there is nothing to record and nothing to pass on.

    For the accept path, which has no task of its own; it looks at one header and makes nothing if that is missing.
    """
    if _backend is not None:
        return _backend.start(name, "server", incoming(headers), (), lasting=True)
    parent = incoming(headers)
    return Span(parent) if parent else None


async def watch_statements(connection: object) -> None:
    """Of this asyncpg connection every statement within a trace becomes a span. Does nothing while off."""
    if _backend is not None:
        _backend.watch(connection)


def setup(process: str, settings: Settings, environ: Mapping[str, str] = os.environ) -> None:
    """Switches spans on if that is wanted. Ends the process with exit 2 if it is demanded and cannot be done."""
    if not _wanted(settings.otel_enabled, environ):
        return
    try:
        from peakclip import otel
    except ImportError as exc:
        if settings.otel_enabled:
            _refuse(
                f"PEAKCLIP_OTEL_ENABLED: OpenTelemetry is not installed: pip install 'peakclip[otel]' ({exc})."
            )
        log.warning("tracing_off", reason="OpenTelemetry is not installed: pip install 'peakclip[otel]'")
        return
    try:
        use(otel.OpenTelemetry(process))
    except (ValueError, OSError) as exc:
        _refuse(f"OpenTelemetry refuses its settings (OTEL_*): {exc}.")


def use(backend: Backend | None) -> None:
    """From now on spans are made by `backend`; by nobody if it is None."""
    global _backend
    _backend = backend


def shutdown() -> None:
    """Sends what is left to the collector, for a few seconds at most. Blocks: call it when the loop has ended."""
    if _backend is not None:
        _backend.shutdown()
        use(None)


def _wanted(enabled: bool | None, environ: Mapping[str, str]) -> bool:
    """The setting decides; unset, spans are made if a collector is named. OTEL_SDK_DISABLED wins over both."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    return any(environ.get(name) for name in _ENDPOINTS) if enabled is None else enabled


def _refuse(sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr)  # noqa: T201
    raise SystemExit(2)
