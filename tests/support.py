"""What several tests of the accept and drain paths share: an API in this process, orders, waiting with a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import openapi
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from peakclip import messages, topology
from peakclip.credentials import store_key
from peakclip.ingest import Intake, Outcome
from peakclip.jetstream import JetStream
from peakclip.messages import Order
from peakclip.service import Service
from peakclip.store import query
from peakclip_api.app import create_app
from peakclip_api.express import ExpressRunner
from peakclip_api.settings import ApiSettings

TENANT = "t1"
SERVICE_KEY = "pk_service"
ADMIN_KEY = "pk_admin"
CUSTOMER_KEY = "pk_customer"  # of the customer `own-1`
PROVIDER_KEY = "pk_provider"
FOREIGN_KEY = "pk_foreign"  # a service of another tenant

NOW = datetime.now(UTC)

_numbers = itertools.count()


async def until(holds: Callable[[], Any], seconds: float = 15.0, pause: float = 0.02) -> Any:
    """Waits until `holds()` (or what it awaits) is true and returns that; fails after the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        found = holds()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"this did not come true in {seconds} s: {inspect.getsource(holds).strip()}")
        await asyncio.sleep(pause)


def new_name(prefix: str) -> str:
    return f"{prefix}{next(_numbers)}"


def make_order(
    key: str | None = None,
    *,
    sale_id: str = "s1",
    customer_id: str | None = None,
    quantity: int = 1,
    **changes: Any,
) -> Order:
    key = key or new_name("key-")
    customer = customer_id or f"customer-{key}"
    values = {"fingerprint": "print", "accepted_at": 1_800_000_000.0, "tenant": TENANT, **changes}
    order_id = values.pop("order_id", None) or messages.order_id(TENANT, key)
    return Order(order_id=order_id, customer_id=customer, sale_id=sale_id, quantity=quantity, **values)


async def insert_sale(
    database: Any, sale_id: str = "s1", *, stock: int = 10, limit: int = 1, pay_within: int = 900
) -> None:
    """The row only; the admission counter is put on offer by `offer`."""
    await database.execute(
        "insert into sales (sale_id, tenant, product, price_cents, initial, available, opens_at, closes_at,"
        " per_customer_limit, pay_within_seconds, fingerprint)"
        " values ($1, $2, 'product', 100, $3, $3, now() - interval '1 hour', now() + interval '1 day', $4, $5, 'f')",
        sale_id, TENANT, stock, limit, pay_within,
    )  # fmt: skip


async def drain_batch(
    database: Any, orders: Sequence[Order], frame: str | Sequence[str] = "f1"
) -> tuple[int, int, int]:
    """The judge in the database: how many were created, rejected and repeated."""
    frames = [frame] * len(orders) if isinstance(frame, str) else list(frame)
    row = await database.fetchrow(
        query("drain_seckill"),
        [order.order_id for order in orders],
        [order.tenant for order in orders],
        [order.customer_id for order in orders],
        [order.sale_id for order in orders],
        [order.quantity for order in orders],
        frames,
        [order.fingerprint for order in orders],
        [order.accepted_at for order in orders],
        [order.traceparent for order in orders],
        NOW.timestamp(),
    )
    return row["created"], row["rejected"], row["repeated"]


async def offer(js: JetStream, units: int, sale_id: str = "s1") -> None:
    await js.increment(topology.stock_subject(sale_id), units, message_id=f"init-{sale_id}")


async def on_offer(js: JetStream, sale_id: str = "s1") -> int:
    """The admission counter as it stands."""
    stored = await js.last_message(topology.STOCK, topology.stock_subject(sale_id))
    return int(msgspec.json.decode(stored.payload)["val"]) if stored else 0


async def store_frame(js: JetStream, orders: Sequence[Order], frame_id: str | None = None) -> str:
    """As an API process does; returns the frame's id."""
    frame_id = frame_id or new_name("f")
    headers = {topology.FRAME_ORDERS_HEADER: str(len(orders))}
    await js.publish(
        topology.frame_subject(frame_id), messages.encode_frame(orders), create_only=True, headers=headers
    )
    return frame_id


async def unfinished(js: JetStream, stream: str, consumer: str) -> int:
    state = await js.consumer_state(stream, consumer)
    return state.pending + state.ack_pending


def submit(intake: Intake, order: Order) -> asyncio.Future[int]:
    """Puts an order into the next group; the future holds or raises its outcome."""
    answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def ended(outcome: Outcome) -> None:
        if isinstance(outcome, int):
            answer.set_result(outcome)
        else:
            answer.set_exception(outcome)

    intake.submit(order, ended)
    return answer


class _ExpressServer(TestServer):
    """Serves as `peakclip api` does."""

    async def _make_runner(self, **kwargs: Any) -> web.AppRunner:
        return ExpressRunner(self.app, **kwargs)


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, read to its end."""

    status: int
    headers: Any
    content_type: str
    text: str

    @property
    def body(self) -> Any:
        return msgspec.json.decode(self.text)

    @property
    def kind(self) -> str | None:
        """The last part of the problem's `type`, or None if this is no problem."""
        return str(self.body["type"]).rpartition("/")[2] if "problem" in self.content_type else None


def _sent(options: dict[str, Any]) -> bytes | None:
    """The body of a request as the client library will send it; None if it comes in pieces."""
    if "json" in options:
        return msgspec.json.encode(options["json"])
    data = options.get("data") or b""
    return data.encode() if isinstance(data, str) else data if isinstance(data, bytes) else None


@dataclass(frozen=True)
class Api:
    """One API process, except that it lives in this one."""

    client: TestClient[Any, Any]
    app: Any
    service: Service

    async def call(self, method: str, path: str, *, key: str | None = SERVICE_KEY, **options: Any) -> Answer:
        """Every request and answer is held against openapi.yaml."""
        headers = {**({"Authorization": f"Bearer {key}"} if key else {}), **options.pop("headers", {})}
        async with self.client.request(method, path, headers=headers, **options) as response:
            text = await response.text()
            answer = Answer(response.status, response.headers, response.content_type, text)
            info = response.request_info
        path, sent = str(info.url.relative()), _sent(options)
        openapi.check(openapi.Exchange(method, path, info.headers, sent, answer.status, answer.headers, text))
        return answer

    async def order(
        self,
        sale_id: str,
        customer: str | None = None,
        *,
        key: str | None = None,
        quantity: int = 1,
        **options: Any,
    ) -> Answer:
        """Places an order for a customer, by default a new one, with a new Idempotency-Key by default."""
        headers = {
            "Peakclip-Customer": customer or new_name("buyer-"),
            "Idempotency-Key": key or new_name("key-"),
        }
        body = {"json": {"quantity": quantity}} if "data" not in options else {}
        return await self.call("POST", f"/v1/sales/{sale_id}/orders", headers=headers, **body, **options)

    async def sale(self, stock: int = 10, limit: int = 1, **changes: Any) -> str:
        """Creates a sale that is open and returns its id."""
        answer = await self.call(
            "POST", "/v1/sales", key=ADMIN_KEY, json=sale_request(stock, limit, **changes),
            headers={"Idempotency-Key": new_name("sale-")},
        )  # fmt: skip
        assert answer.status == 201, answer
        return str(answer.body["sale_id"])


def sale_request(
    stock: int = 10, limit: int = 1, *, opens: float = -60, closes: float = 3600
) -> dict[str, Any]:
    """`opens` and `closes` are seconds from now."""
    now = datetime.now(UTC)
    return {
        "product": "A product",
        "stock": stock,
        "price_cents": 1999,
        "per_customer_limit": limit,
        "opens_at": (now + timedelta(seconds=opens)).isoformat(),
        "closes_at": (now + timedelta(seconds=closes)).isoformat(),
    }


async def store_keys(database: Any) -> None:
    await store_key(database, SERVICE_KEY, TENANT, "storefront", "service")
    await store_key(database, ADMIN_KEY, TENANT, "admin", "admin")
    await store_key(database, CUSTOMER_KEY, TENANT, "own-1", "customer")
    await store_key(database, PROVIDER_KEY, TENANT, "p-1", "provider")
    await store_key(database, FOREIGN_KEY, "t2", "other-storefront", "service")


@contextlib.asynccontextmanager
async def api_process(nats_url: str, database_url: str, **settings: Any) -> AsyncIterator[Api]:
    """An API on a port of its own. Its side tasks must have survived the test."""
    service = Service()
    chosen = ApiSettings(nats_url=nats_url, database_url=database_url, **settings)
    app = create_app(chosen, service)
    server = _ExpressServer(app) if chosen.express_lane else TestServer(app)
    async with TestClient(server) as client:
        service.ready()
        try:
            yield Api(client, app, service)
        finally:
            failure = service.failure
    await service.cancel_side_tasks()
    assert failure is None
