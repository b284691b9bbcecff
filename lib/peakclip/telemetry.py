"""Prometheus metrics of every process (names: the contract, 7.7), and structured logs.

On one machine the processes share PROMETHEUS_MULTIPROC_DIR, and the stack's management port adds them up.
"""

from __future__ import annotations

import bisect
import collections
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Final

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    generate_latest,
    multiprocess,
)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_LATEST: Final = "livemostrecent"  # several processes: the newest value of one that lives


class OneTeller(Gauge):
    """A gauge without labels that one kind of process sets. The others leave it out: their 0 would be a lie."""

    _known = False

    def set(self, value: float) -> None:
        self._known = True
        super().set(value)

    def collect(self) -> Iterable[Metric]:
        return super().collect() if self._known else ()


HTTP_CONNECTIONS = Gauge(
    "peakclip_http_connections", "Open connections of clients.", multiprocess_mode="livesum"
)
HTTP_ENDED = Counter(
    "peakclip_http_connections_ended_total",
    "Connections that were ended: slow_request, slow_reader, idle (to make room), too_many, too_much.",
    ["reason"],
)
LAG = Gauge(
    "peakclip_lag_messages",
    "Messages not yet finished: ready, in_flight, delayed (another attempt), scheduled; NaN: unknown.",
    ["pool", "state"],
    multiprocess_mode=_LATEST,
)
ARRIVAL = Gauge("peakclip_arrival_per_second", "Messages arriving.", ["pool"], multiprocess_mode=_LATEST)
DRAIN = Gauge("peakclip_drain_per_second", "Messages finished.", ["pool"], multiprocess_mode=_LATEST)
LIMIT = Gauge("peakclip_limit_per_second", "The configured rate.", ["pool"], multiprocess_mode=_LATEST)
EFFECTIVE_LIMIT = Gauge(
    "peakclip_effective_limit_per_second", "The rate in force.", ["pool"], multiprocess_mode=_LATEST
)
BURST = Gauge("peakclip_limit_burst", "Starts above the limit.", ["pool"], multiprocess_mode=_LATEST)
CATCH_UP = Gauge("peakclip_catch_up_seconds", "The time to catch up in.", ["pool"], multiprocess_mode=_LATEST)
WORKERS = Gauge("peakclip_workers", "Workers.", ["pool", "state"], multiprocess_mode=_LATEST)
ETA = Gauge(
    "peakclip_eta_seconds", "Time to an empty queue; NaN: unknown.", ["pool"], multiprocess_mode=_LATEST
)
MAX_STARTS = Gauge(
    "peakclip_starts_max_sliding_second",
    "Most starts in any sliding second.",
    ["pool"],
    multiprocess_mode=_LATEST,
)
RECENT_STARTS = Gauge(
    "peakclip_starts_recent_max_sliding_second",
    "Most starts in any sliding second of the last minute.",
    ["pool"],
    multiprocess_mode=_LATEST,
)
UNKNOWN = Gauge(
    "peakclip_signal_unknown_seconds",
    "For how long a signal has been unknown; 0: it is known.",
    ["pool", "signal"],
    multiprocess_mode=_LATEST,
)
DATABASE_HEALTH = Gauge(
    "peakclip_database_health",
    "How the database answers the workers: error_share, wait_seconds, p95_seconds; NaN: unknown.",
    ["pool", "measure"],
    multiprocess_mode=_LATEST,
)
SCALE_UP_BLOCKED = Gauge(
    "peakclip_scale_up_blocked",
    "1: more workers brought nothing, and none are added for a while.",
    ["pool"],
    multiprocess_mode=_LATEST,
)
LEADER = OneTeller("peakclip_operator_leader", "1: this operator decides.", multiprocess_mode=_LATEST)
DEAD_LETTERS = Gauge("peakclip_dead_letters", "Dead letters.", ["pool"], multiprocess_mode=_LATEST)
OUTBOX = OneTeller("peakclip_outbox_rows", "Outbox rows not yet published.", multiprocess_mode=_LATEST)
PUBLISHED = Counter("peakclip_outbox_published_total", "Outbox rows published.")
DURABLE = Gauge(
    "peakclip_durable",
    "1: the store syncs to disk what it acknowledges, by its own report; 0: it does not; NaN: unknown.",
    ["store"],
    multiprocess_mode=_LATEST,
)
PROCESSED = Counter("peakclip_processed_total", "Messages finished, by outcome.", ["pool", "outcome"])
FAILED = Counter("peakclip_failed_attempts_total", "Attempts that ended in an error.", ["pool"])
DELIVERIES = Counter(
    "peakclip_deliveries_total", "Attempts to deliver a notification, by outcome.", ["channel", "outcome"]
)
DECISIONS = Counter("peakclip_decisions_total", "Decisions of the controller.", ["pool", "reason"])
API_REQUESTS = Counter(
    "peakclip_operator_api_requests_total",
    "Requests to the Kubernetes API server, by status code; none: no answer.",
    ["verb", "resource", "code"],
)
PROCESSING = Histogram(
    "peakclip_processing_seconds", "From start to commit, per batch.", ["pool"], buckets=_SECONDS
)
DATABASE_CALLS = Counter(
    "peakclip_database_calls_total", "Statements of workers, by outcome.", ["pool", "outcome"]
)
DATABASE_SECONDS = Histogram(
    "peakclip_database_seconds", "One statement, with a connection.", ["pool"], buckets=_SECONDS
)
DATABASE_WAIT = Histogram(
    "peakclip_database_wait_seconds", "Wait for a connection.", ["pool"], buckets=_SECONDS
)
DELIVERY = Histogram("peakclip_delivery_seconds", "One attempt to deliver.", ["channel"], buckets=_SECONDS)
QUEUE_DELAY = Histogram(
    "peakclip_queue_delay_seconds", "From acceptance to start.", ["pool"], buckets=_SECONDS
)
LIMITER_WAIT = Histogram("peakclip_limiter_wait_seconds", "Wait for a ticket.", ["pool"], buckets=_SECONDS)
ACCEPT = Histogram("peakclip_accept_seconds", "From request to durable answer.", buckets=_SECONDS)
HTTP_ANSWERS = Counter("peakclip_http_answers_total", "Answers to requests.", ["route", "status"])
REFUSED = Counter("peakclip_refused_total", "Answers that are problems, by the kind of problem.", ["kind"])
HTTP_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
HTTP_SECONDS = Histogram("peakclip_http_seconds", "From request to answer.", ["route"], buckets=HTTP_BUCKETS)
BUILD = Gauge(
    "peakclip_build_info", "1 for each process that runs.", ["process", "version"], multiprocess_mode=_LATEST
)
COMMIT_BATCH = Histogram(
    "peakclip_commit_batch_orders", "Orders per frame.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)


class Gathered:
    """Observations of a histogram, gathered in a list and written in one go.

    In a shared folder each observation costs two writes to a mapped file, some 4 us; on the accept path that would
    be 4 % of an order. Gathered, an order costs an append, and a bucket is written once for hundreds.
    """

    def __init__(self, histogram: Histogram, bounds: Sequence[float] = _SECONDS) -> None:
        self._histogram = histogram
        self._bounds = bounds
        self._values: list[float] = []
        self.add = self._values.append

    def write(self) -> None:
        values = self._values.copy()
        self._values.clear()
        counts = collections.Counter(bisect.bisect_left(self._bounds, value) for value in values)
        for bucket, count in counts.items():
            self._histogram._buckets[bucket].inc(count)  # the library can only add one at a time
        self._histogram._sum.inc(sum(values))


class Tally:
    """Counts gathered in the same way."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._counts: collections.Counter[tuple[str, ...]] = collections.Counter()

    def add(self, *labels: str) -> None:
        self._counts[labels] += 1

    def write(self) -> None:
        counts, self._counts = self._counts, collections.Counter()
        for labels, count in counts.items():
            self._counter.labels(*labels).inc(count)


def exposition(shared_folder: str | os.PathLike[str] | None = None) -> bytes:
    """The text that Prometheus scrapes: of all processes when they share a folder, else of this one."""
    folder = shared_folder or os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry, os.fspath(folder))  # type: ignore[no-untyped-call]
        return generate_latest(registry)
    return generate_latest()


# Without the frames' variables, which structlog would add: they hold keys, tokens and addresses with passwords.
_dict_tracebacks: Final = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


def configure_logging(process: str, *, json: bool = True) -> None:
    """Log lines on stderr: JSON with a stable `event`, or readable lines for a person at a terminal."""
    rendered: list[structlog.typing.Processor] = (
        [_dict_tracebacks, structlog.processors.JSONRenderer()]
        if json
        # Takes tracebacks as they are.
        else [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)]
    )
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, *rendered],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        # One write for each line: several workers share a file, and `print` writes the line's end apart.
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    structlog.contextvars.bind_contextvars(process=process)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
