"""One trace from the request to the event: on real servers, with spans in memory and with a real collector."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from pools import drain, effects_pool, orders_pool, relay
from support import ADMIN_KEY, Api, api_process, new_name, sale_request, store_frame, store_keys, until

from peakclip import store, topology, tracing
from peakclip.jetstream import JetStream, StoredMessage
from peakclip.limiter.pace import set_pace
from peakclip.local.folder import temporary
from peakclip.local.stack import Stack, StackOptions
from peakclip.messages import Order, decode_frame
from peakclip.otel import OpenTelemetry

pytestmark = pytest.mark.integration

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = f"00-{TRACE}-b7ad6b7169203331-01"
UNSAMPLED = "00-11111111111111111111111111111111-1111111111111111-00"
ACCEPT = "POST /v1/sales/{sale_id}/orders"


class Seen(InMemorySpanExporter):
    def named(self, name: str) -> list[ReadableSpan]:
        return [one for one in self.get_finished_spans() if one.name == name]

    def one(self, name: str) -> ReadableSpan:
        (found,) = self.named(name)
        return found


@pytest.fixture
def seen() -> Iterator[Seen]:
    exporter = Seen()
    tracing.use(OpenTelemetry("test", SimpleSpanProcessor(exporter)))
    yield exporter
    tracing.shutdown()


@pytest.fixture(params=[True, False], ids=["express-lane", "long-way"])
async def api(
    js: JetStream, database: Any, nats_url: str, fresh_database_url: str, request: pytest.FixtureRequest
) -> AsyncIterator[Api]:
    """Both ways must trace the same. Asked for after `seen`: connections are watched from their beginning."""
    await store_keys(database)
    async with api_process(nats_url, fresh_database_url, express_lane=request.param) as one:
        yield one


@contextlib.asynccontextmanager
async def running(js: JetStream, database_url: str) -> AsyncIterator[None]:
    """Relay and workers, in this process. Their connections are made now, so that they are watched."""
    for pool in (topology.ORDERS_POOL, topology.EFFECTS_POOL):
        await set_pace(js, pool, limit_per_second=5_000)
    database = await store.connect(database_url, max_size=4)
    try:
        async with (
            relay(js, database),
            drain(js, orders_pool(js, database), topology.ORDERS_POOL),
            drain(js, effects_pool(js, database), topology.EFFECTS_POOL),
        ):
            yield
    finally:
        database.terminate()


async def buy(api: Api, sale: str, headers: dict[str, str]) -> str:
    """As `Api.order`, with more headers. Returns the order's id."""
    named = {"Peakclip-Customer": new_name("buyer-"), "Idempotency-Key": new_name("key-"), **headers}
    answer = await api.call("POST", f"/v1/sales/{sale}/orders", json={"quantity": 1}, headers=named)
    assert answer.status == 202, answer
    return str(answer.body["order_id"])


async def event_of(js: JetStream, order_id: str, version: int = 1) -> StoredMessage:
    async def found() -> StoredMessage | None:
        seq = 1
        while message := await js.message_from(topology.EVENTS, seq):
            if message.headers["Nats-Msg-Id"] == f"{order_id}:{version}":
                return message
            seq = message.seq + 1
        return None

    message: StoredMessage = await until(found)
    return message


async def accepted(js: JetStream) -> list[Order]:
    frame = await js.message_from(topology.INTAKE, 1)
    assert frame is not None
    return decode_frame(frame.payload)


def ids(one: ReadableSpan) -> tuple[str, str]:
    """Trace and span."""
    assert one.context is not None
    return f"{one.context.trace_id:032x}", f"{one.context.span_id:016x}"


def parent_id(one: ReadableSpan) -> str:
    assert one.parent is not None
    return f"{one.parent.span_id:016x}"


async def test_one_trace_leads_from_the_request_to_the_event(
    seen: Seen, api: Api, js: JetStream, fresh_database_url: str
) -> None:
    sale = await api.sale()
    # What is remembered from now on makes the next one an ordinary order; of this one nothing is to be recorded.
    await buy(api, sale, {"traceparent": UNSAMPLED})
    order_id = await buy(api, sale, {"traceparent": CALLER})
    async with running(js, fresh_database_url):
        event = await event_of(js, order_id)
        for last in ("publish outbox", "process effects"):
            await until(lambda name=last: any(ids(one)[0] == TRACE for one in seen.named(name)))
    mine = {one.name: one for one in seen.get_finished_spans() if ids(one)[0] == TRACE}
    accept = mine[ACCEPT]
    assert (parent_id(accept), accept.kind) == ("b7ad6b7169203331", SpanKind.SERVER)
    assert accept.attributes is not None
    assert accept.attributes["http.response.status_code"] == 202
    assert event.headers["traceparent"] == f"00-{TRACE}-{ids(accept)[1]}-01"
    assert accept.context is not None
    for name in ("relay orders", "process orders", "publish outbox", "process effects"):
        assert parent_id(mine[name]) == ids(accept)[1]
        assert [link.context.span_id for link in mine[name].links] == [accept.context.span_id]
    assert parent_id(mine["drain_seckill"]) == ids(mine["process orders"])[1]
    assert parent_id(mine["apply_effects"]) == ids(mine["process effects"])[1]
    assert parent_id(mine["delete_outbox"]) == ids(mine["publish outbox"])[1]
    statement = mine["drain_seckill"].attributes
    assert statement is not None
    assert (statement["db.system"], statement["db.operation"]) == ("postgresql", "SELECT")


async def test_a_batch_is_one_span_with_a_link_for_each_of_its_orders(
    seen: Seen, js: JetStream, nats_url: str, fresh_database_url: str, database: Any
) -> None:
    await store_keys(database)
    async with api_process(nats_url, fresh_database_url) as api:
        sale = await api.sale(stock=50)
        callers = [f"00-{number:032x}-{number:016x}-01" for number in range(1, 21)]
        orders = [
            Order(f"00000000-0000-8000-8000-{n:012d}", "t1", f"c{n}", sale, 1, "f", 1.8e9, caller)
            for n, caller in enumerate(callers)
        ]
        await store_frame(js, orders)
        async with running(js, fresh_database_url):
            for order in orders:
                event = await event_of(js, order.order_id)
                assert event.headers["traceparent"] == order.traceparent
    (relayed,) = [one for one in seen.named("relay orders") if one.links]
    assert [link.context.trace_id for link in relayed.links] == list(range(1, 21))
    processed = [one for one in seen.named("process orders") if one.links]
    assert sorted(link.context.trace_id for one in processed for link in one.links) == list(range(1, 21))
    assert len(processed) < 20  # one a batch, and not one an order
    counts = [one.attributes["messaging.batch.message_count"] for one in processed if one.attributes]
    assert counts == [len(one.links) for one in processed]


async def test_off_the_context_is_passed_on_as_it_came(
    api: Api, js: JetStream, fresh_database_url: str
) -> None:
    sale = await api.sale()
    order_id = await buy(api, sale, {"traceparent": CALLER})
    assert [order.traceparent for order in await accepted(js)] == [CALLER]
    async with running(js, fresh_database_url):
        assert (await event_of(js, order_id)).headers["traceparent"] == CALLER
        waited = await js.message_from(topology.SECKILL, 1)
        assert waited is not None
        assert waited.headers["traceparent"] == CALLER


async def test_what_is_no_context_goes_no_further(api: Api, js: JetStream, fresh_database_url: str) -> None:
    sale = await api.sale()
    headers = ["", "nonsense", CALLER.upper(), f"ff{CALLER[2:]}", f"{CALLER}-more"]
    orders = [await buy(api, sale, {"traceparent": header}) for header in headers]
    seq = 1
    while frame := await js.message_from(topology.INTAKE, seq):
        assert b"traceparent" not in frame.payload
        seq = frame.seq + 1
    assert seq > len(orders)
    async with running(js, fresh_database_url):
        for order_id in orders:
            assert "traceparent" not in (await event_of(js, order_id)).headers


async def test_refusals_and_other_routes_are_spans_too(seen: Seen, api: Api) -> None:
    sale = await api.sale(stock=1)
    await buy(api, sale, {})
    for _ in range(2):
        assert (await api.order(sale)).kind == "sold-out"
    assert (await api.call("GET", "/v1/orders/nonsense")).status == 404
    assert (await api.call("GET", "/v1/nothing")).status == 404
    assert (await api.call("GET", "/v1/status")).status == 200
    statuses = [one.attributes["http.response.status_code"] for one in seen.named(ACCEPT) if one.attributes]
    assert statuses == [202, 409, 409]
    names = {one.name for one in seen.get_finished_spans()}
    assert {"POST /v1/sales", "GET /v1/orders/{order_id}"} <= names
    assert not any("nothing" in one or "status" in one for one in names)


async def test_what_happens_to_an_order_later_is_of_the_trace_in_which_it_was_asked_for(
    seen: Seen, api: Api, js: JetStream, fresh_database_url: str
) -> None:
    order_id = await buy(api, await api.sale(), {"traceparent": UNSAMPLED})
    async with running(js, fresh_database_url):
        await event_of(js, order_id)
        path = f"/v1/orders/{order_id}/pay"
        paid = await api.call("POST", path, key=ADMIN_KEY, headers={"traceparent": CALLER})
        assert paid.status == 200, paid
        event = await event_of(js, order_id, version=2)
    asked = seen.one("POST /v1/orders/{order_id}/pay")
    assert (ids(asked)[0], parent_id(asked)) == (TRACE, "b7ad6b7169203331")
    assert event.headers["traceparent"] == f"00-{TRACE}-{ids(asked)[1]}-01"
    assert parent_id(seen.one("pay_order")) == ids(asked)[1]


async def test_a_request_over_nats_is_a_span_of_whoever_asked(seen: Seen, api: Api, js: JetStream) -> None:
    body = b'{"tenant":"t1","order_id":"00000000-0000-8000-8000-000000000000"}'
    await js.request("peakclip.orders.get", body, headers={"traceparent": CALLER})
    asked = seen.one("peakclip.orders.get")
    assert asked.attributes == {"rpc.response.status_code": "404"}
    assert asked.status.status_code is StatusCode.UNSET
    assert (ids(asked)[0], parent_id(asked)) == (TRACE, "b7ad6b7169203331")
    assert parent_id(seen.one("find_order")) == ids(asked)[1]


# -- processes and a collector -----------------------------------------------------------------------------


class Collector:
    """Takes OTLP over HTTP, as an OpenTelemetry collector does on port 4318."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []  # service, span
        self.url = ""

    async def receive(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/x-protobuf"
        told = ExportTraceServiceRequest.FromString(await request.read())
        for group in told.resource_spans:
            (service,) = [
                attribute.value.string_value
                for attribute in group.resource.attributes
                if attribute.key == "service.name"
            ]
            self.spans += [(service, one) for scope in group.scope_spans for one in scope.spans]
        body = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=body, content_type="application/x-protobuf")


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    running = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", running.receive)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    running.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield running
    await runner.cleanup()


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="peakclip-stack-", dir=temporary()) as name:
        yield Path(name) / "data"


def environ(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PEAKCLIP_", "OTEL_"))}
    return kept | more


async def post(session: aiohttp.ClientSession, path: str, key: str, body: Any, **headers: str) -> Any:
    named = {"Authorization": f"Bearer {key}", "Idempotency-Key": new_name("key-"), **headers}
    async with session.post(path, json=body, headers=named) as response:
        assert response.status in (201, 202), await response.text()
        return await response.json()


async def test_processes_send_one_trace_to_a_collector_and_leave_nothing_behind_when_they_stop(
    collector: Collector, js: JetStream, nats_url: str, fresh_database_url: str, folder: Path
) -> None:
    given = environ(
        PEAKCLIP_NATS_URL=nats_url,
        PEAKCLIP_DATABASE_URL=fresh_database_url,
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_BSP_SCHEDULE_DELAY="600000",  # nothing is sent before the end
    )
    async with Stack(StackOptions(data=folder, rate=100, api_processes=1), given) as stack:
        async with aiohttp.ClientSession(stack.credentials["url"]) as session:
            sale = (await post(session, "/v1/sales", stack.credentials["admin"], sale_request()))["sale_id"]
            path, key = f"/v1/sales/{sale}/orders", stack.credentials["service"]
            order = await post(session, path, key, {}, traceparent=CALLER, **{"Peakclip-Customer": "c1"})
        event = await event_of(js, order["order_id"])
        assert collector.spans == []
    mine = {one.name: (service, one) for service, one in collector.spans if one.trace_id.hex() == TRACE}
    accept = mine[ACCEPT][1]
    assert event.headers["traceparent"] == f"00-{TRACE}-{accept.span_id.hex()}-01"
    assert accept.parent_span_id.hex() == "b7ad6b7169203331"
    steps = {
        ACCEPT: "peakclip-api",
        "relay orders": "peakclip-relay",
        "process orders": "peakclip-worker-orders",
        "drain_seckill": "peakclip-worker-orders",
        "publish outbox": "peakclip-relay",
    }
    assert {name: mine[name][0] for name in steps} == steps
    assert mine["drain_seckill"][1].parent_span_id == mine["process orders"][1].span_id
    for name in ("relay orders", "process orders", "publish outbox"):
        assert mine[name][1].parent_span_id == accept.span_id
        assert [link.span_id for link in mine[name][1].links] == [accept.span_id]
