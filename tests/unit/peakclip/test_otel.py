"""Real spans, seen by OpenTelemetry's own exporter in memory."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from peakclip import otel, tracing
from peakclip.otel import MOST_LINKS, OpenTelemetry
from peakclip.settings import Settings
from peakclip.store import query
from peakclip.tracing import begin, current_traceparent, span

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"


class Seen(InMemorySpanExporter):
    """The spans that have ended."""

    def named(self, name: str) -> ReadableSpan:
        (found,) = [one for one in self.get_finished_spans() if one.name == name]
        return found

    def names(self) -> list[str]:
        return [one.name for one in self.get_finished_spans()]


@pytest.fixture
def seen() -> Iterator[Seen]:
    exporter = Seen()
    tracing.use(OpenTelemetry("test", SimpleSpanProcessor(exporter)))
    yield exporter
    tracing.shutdown()
    assert not tracing.is_on()


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sampled that does not come in so."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")


def traceparent(number: int, flags: str = "01") -> str:
    return f"00-{number:032x}-{number:016x}-{flags}"


def ids(one: ReadableSpan) -> tuple[str, str | None]:
    """Trace and parent."""
    assert one.context is not None
    return f"{one.context.trace_id:032x}", f"{one.parent.span_id:016x}" if one.parent else None


def links(one: ReadableSpan) -> list[int]:
    return [link.context.trace_id for link in one.links]


def test_a_span_goes_on_in_the_trace_of_its_parent_and_is_the_parent_of_what_follows(seen: Seen) -> None:
    with span("accept", kind="server", parent=SAMPLED) as accept:
        assert current_traceparent() == accept.traceparent
        with span("inside") as inside:
            assert current_traceparent() == inside.traceparent
    assert current_traceparent() == ""
    assert ids(seen.named("accept")) == (TRACE, PARENT)
    assert ids(seen.named("inside")) == (TRACE, accept.traceparent.split("-")[2])
    assert accept.traceparent == f"00-{TRACE}-{ids(seen.named('inside'))[1]}-01"
    assert seen.named("accept").kind is SpanKind.SERVER


def test_without_a_parent_a_trace_begins(seen: Seen) -> None:
    with span("first") as first:
        pass
    assert ids(seen.named("first")) == (first.traceparent.split("-")[1], None)
    assert tracing.parse(first.traceparent) == first.traceparent


def test_a_batch_goes_on_in_the_trace_of_its_first_order_and_is_linked_to_all(seen: Seen) -> None:
    orders = ["", traceparent(1), traceparent(2), traceparent(3, "00"), traceparent(2), "nonsense", ""]
    with span("process", kind="consumer", links=orders):
        pass
    assert ids(seen.named("process")) == (f"{1:032x}", f"{1:016x}")
    assert links(seen.named("process")) == [
        1,
        2,
    ]  # each once, and only those of which there is something to see


def test_a_batch_within_a_span_stays_there(seen: Seen) -> None:
    with span("outer"), span("inner", links=[traceparent(1)]):
        pass
    assert ids(seen.named("inner"))[0] == ids(seen.named("outer"))[0]
    assert links(seen.named("inner")) == [1]


def test_a_batch_has_no_more_links_than_can_be_sent(seen: Seen) -> None:
    def endless() -> Iterator[str]:
        number = 0
        while True:
            number += 1
            yield traceparent(number)

    with span("process", links=endless()):
        pass
    assert links(seen.named("process")) == list(range(1, MOST_LINKS + 1))


def test_what_came_unsampled_stays_so_and_is_passed_on(seen: Seen) -> None:
    with span("accept", parent=UNSAMPLED) as accept:
        pass
    with span("process", links=[UNSAMPLED]):
        pass
    assert seen.names() == []
    assert accept.traceparent.startswith(f"00-{TRACE}-")
    assert accept.traceparent.endswith("-00")


def test_a_trace_that_begins_here_and_is_not_recorded_is_not_carried(seldom: None, seen: Seen) -> None:
    with span("accept") as accept:
        assert current_traceparent() == ""
    assert accept.traceparent == ""
    with span("accept", parent=SAMPLED):
        pass
    assert seen.names() == ["accept"]


def test_a_failure_is_told_by_its_kind_and_no_more(seen: Seen) -> None:
    with pytest.raises(KeyError), span("work"):
        raise KeyError("a customer's name")
    with span("answered") as answered:
        answered.set("http.response.status_code", 503)
        answered.fail("503")
    work, answer = seen.named("work"), seen.named("answered")
    assert (work.status.status_code, work.attributes, work.events) == (
        StatusCode.ERROR, {"error.type": "KeyError"}, (),
    )  # fmt: skip
    assert answer.attributes == {"http.response.status_code": 503, "error.type": "503"}


def test_a_cancelled_task_has_not_failed(seen: Seen) -> None:
    with pytest.raises(asyncio.CancelledError), span("work"):
        raise asyncio.CancelledError
    assert seen.named("work").status.status_code is StatusCode.UNSET


def test_a_span_that_was_begun_outlives_its_block(seen: Seen) -> None:
    accept = begin("accept", {"traceparent": SAMPLED})
    assert accept is not None
    with accept:
        assert current_traceparent() == accept.traceparent
    assert (seen.names(), current_traceparent()) == ([], "")
    accept.end()
    assert ids(seen.named("accept")) == (TRACE, PARENT)
    assert begin("accept", {}) is not None


# -- statements ----------------------------------------------------------------------------------------------


class Connection:
    """Remembers who wants to hear of its statements, as asyncpg's does."""

    def __init__(self) -> None:
        self.loggers: list[Any] = []

    def add_query_logger(self, callback: Any) -> None:
        self.loggers.append(callback)

    def ran(self, text: str, elapsed: float = 0.25, exception: Exception | None = None) -> None:
        params = SimpleNamespace(database="shop")
        for logger in self.loggers:
            logger(SimpleNamespace(query=text, elapsed=elapsed, exception=exception, conn_params=params))


async def test_a_statement_within_a_trace_is_a_child(seen: Seen) -> None:
    connection = Connection()
    await tracing.watch_statements(connection)
    with span("process", parent=SAMPLED) as process:
        connection.ran(query("drain_seckill"))
    statement = seen.named("drain_seckill")
    assert ids(statement) == (TRACE, process.traceparent.split("-")[2])
    assert statement.kind is SpanKind.CLIENT
    assert statement.attributes == {
        "db.system.name": "postgresql",
        "db.system": "postgresql",
        "db.operation.name": "SELECT",
        "db.operation": "SELECT",
        "db.namespace": "shop",
    }
    assert statement.start_time is not None
    assert statement.end_time is not None
    assert statement.end_time - statement.start_time == 250_000_000


@pytest.mark.parametrize(
    ("text", "operation"),
    [
        ("BEGIN;", "BEGIN"),
        ("COMMIT;", "COMMIT"),
        ("\n  with due as (update orders set x = 1) select 1", "UPDATE"),
        ("delete from outbox", "DELETE"),
        ("vacuum", "OTHER"),
    ],
)
def test_a_statement_without_a_name_is_named_by_its_operation(seen: Seen, text: str, operation: str) -> None:
    connection = Connection()
    asyncio.run(tracing.watch_statements(connection))
    with span("process"):
        connection.ran(text)
    assert seen.names() == [operation, "process"]


async def test_a_refused_statement_tells_why_and_none_of_its_values(seen: Seen) -> None:
    connection = Connection()
    await tracing.watch_statements(connection)
    with span("process"):
        connection.ran("select 1", exception=ValueError("a customer's name"))
    failed = seen.named("SELECT")
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "ValueError"
    assert "customer" not in failed.to_json()


async def test_statements_outside_of_a_trace_are_nobodys_business(seen: Seen) -> None:
    connection = Connection()
    await tracing.watch_statements(connection)
    connection.ran("select 1")
    with span("not sampled", parent=UNSAMPLED):
        connection.ran("select 1")
    assert seen.names() == []


async def test_off_no_connection_is_watched() -> None:
    connection = Connection()
    await tracing.watch_statements(connection)
    assert connection.loggers == []


# -- start and end -------------------------------------------------------------------------------------------


def test_a_process_has_its_name_unless_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert otel._resource("worker-orders").attributes["service.name"] == "peakclip-worker-orders"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    assert otel._resource("api").attributes["service.name"] == "shop"
    monkeypatch.delenv("OTEL_SERVICE_NAME")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=mall,deployment.environment=test")
    assert otel._resource("api").attributes["service.name"] == "mall"


class Stuck(SpanProcessor):
    """The collector does not answer."""

    def __init__(self) -> None:
        self.released = threading.Event()

    def shutdown(self) -> None:
        self.released.wait()


def test_a_collector_that_is_away_does_not_keep_the_process() -> None:
    stuck = Stuck()
    tracing.use(OpenTelemetry("test", stuck, shutdown_seconds=0.01))
    tracing.shutdown()
    assert not tracing.is_on()
    stuck.released.set()


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("peakclip.otel")
    monkeypatch.setitem(sys.modules, "peakclip.otel", None)


def test_demanded_and_not_installed_ends_the_process_with_one_sentence(
    not_installed: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        tracing.setup("test", Settings(otel_enabled=True), {})
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("PEAKCLIP_OTEL_ENABLED: OpenTelemetry is not installed")


def test_wished_for_and_not_installed_is_off(not_installed: None) -> None:
    tracing.setup("test", Settings(), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
    assert not tracing.is_on()


def test_a_wrong_variable_of_opentelemetry_ends_the_process_with_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "1")  # less than what is sent at once
    with pytest.raises(SystemExit) as ended:
        tracing.setup("test", Settings(otel_enabled=True), {})
    assert ended.value.code == 2
    assert "(OTEL_*)" in capsys.readouterr().err
    assert not tracing.is_on()
