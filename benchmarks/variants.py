"""One process of a design that Peakclip is compared with: `python -m benchmarks.variants DESIGN`.

Credential, customer, idempotency key, body, sale and window are checked by Peakclip's own code, in its order; only
what then happens to the order differs. The others get off lightly: none counts a customer's units, (b) and (c)
take no stock.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import asyncpg
import msgspec
import pydantic
from aiohttp import web

from benchmarks import statements
from benchmarks.environment import BENCH_SUBJECT
from peakclip import messages, store
from peakclip.errors import OutcomeUnknownError, RefusedError, UnavailableError
from peakclip.jetstream import JetStream
from peakclip.messages import Order
from peakclip.service import Service, run_service
from peakclip_api import keys
from peakclip_api.accept import fingerprint
from peakclip_api.auth import Keys, credential_of, customer_of
from peakclip_api.body import decode_body, idempotency_key
from peakclip_api.problems import Problem, problems, retry_later
from peakclip_api.routes.orders import SeckillOrderRequest
from peakclip_api.sales import Sale, Sales, check_window
from peakclip_api.settings import ApiSettings

Store = Callable[[Sale, Order], Awaitable[None]]
Resources = Callable[[web.Application], AsyncIterator[None]]

STORE: Final[web.AppKey[Store]] = web.AppKey("store")
_decoder = msgspec.json.Decoder(SeckillOrderRequest)
_ECHO: Final = b'{"order_id":"00000000-0000-8000-8000-000000000000","status":"queued"}'


class Settings(ApiSettings):
    connections: int = pydantic.Field(default=8, ge=1)
    """Connections to PostgreSQL of each process of (a') and (a'')."""


async def create_order(request: web.Request) -> web.Response:
    """`create_seckill_order` of Peakclip up to the point where the order is handed over."""
    app = request.app
    credential = await credential_of(request, app[keys.KEYS])
    customer_id = customer_of(request.headers, credential)
    key = idempotency_key(request.headers)
    wanted = decode_body(await request.read() or b"{}", _decoder)
    sale_id = request.match_info["sale_id"]
    sale = app[keys.SALES].remembered(sale_id) or await app[keys.SALES].get(sale_id)
    if sale is None or sale.tenant != credential.tenant:
        raise Problem(404, "sale-not-found", "There is no such sale.")
    order_id = messages.order_id(sale.tenant, key)
    print_ = fingerprint(customer_id, sale_id, wanted.quantity)
    now = time.time()
    check_window(sale, now)
    await app[STORE](sale, Order(order_id, sale.tenant, customer_id, sale_id, wanted.quantity, print_, now))
    return web.Response(
        body=msgspec.json.encode({"order_id": order_id, "status": "queued"}),
        status=202,
        headers={"Location": f"/v1/orders/{order_id}", "Content-Type": "application/json"},
    )


class Connections:
    """Connections to hand out. asyncpg's own pool asks the server to reset each after use: a round trip more."""

    def __init__(self, connections: list[Any]) -> None:
        self._free: asyncio.LifoQueue[Any] = asyncio.LifoQueue()
        for connection in connections:
            self._free.put_nowait(connection)

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[Any]:
        connection = await self._free.get()
        try:
            yield connection
        finally:
            self._free.put_nowait(connection)


def in_transaction(take: Callable[[], Any]) -> Store:
    """(a) and (a'): order, event and stock in one transaction, a round trip for each statement."""

    async def put(sale: Sale, order: Order) -> None:
        async with take() as connection, connection.transaction():
            created = await connection.fetchval(
                statements.INSERT_ORDER, order.order_id, order.tenant, order.customer_id, order.sale_id,
                order.quantity, order.fingerprint, sale.pay_within_seconds,
            )  # fmt: skip
            if not created:
                return await check_repeat(connection, order)
            await connection.execute(
                statements.INSERT_EVENT, order.order_id, order.tenant, order.customer_id, order.sale_id,
                order.quantity,
            )  # fmt: skip
            if not await connection.fetchval(statements.TAKE_STOCK, order.sale_id, order.quantity):
                raise Problem(409, "sold-out", "Every unit of the sale is taken.")

    return put


def in_one_call(take: Callable[[], Any]) -> Store:
    """(a''): the same rows, but one statement and one round trip."""

    async def put(sale: Sale, order: Order) -> None:
        async with take() as connection:
            try:
                created = await connection.fetchval(
                    statements.ORDER_IN_ONE_CALL, order.order_id, order.tenant, order.customer_id,
                    order.sale_id, order.quantity, order.fingerprint, sale.pay_within_seconds,
                )  # fmt: skip
            except asyncpg.UniqueViolationError:  # the same order on two connections at once
                created = None
            if not created:
                await check_repeat(connection, order)

    return put


async def check_repeat(connection: Any, order: Order) -> None:
    """Raises Problem unless this order is there already."""
    found = await connection.fetchval(statements.FINGERPRINT, order.order_id)
    if found is None:
        raise Problem(409, "sold-out", "Every unit of the sale is taken.")
    if found != order.fingerprint:
        raise Problem(422, "idempotency-key-reused", "This Idempotency-Key was used with another request.")


def in_stream(js: JetStream) -> Store:
    """(b) and (c): one message per order; the server drops a repeat by its message id."""

    async def put(_: Sale, order: Order) -> None:
        try:
            await js.publish(
                f"{BENCH_SUBJECT}.{order.sale_id}", messages.encode(order), message_id=order.order_id
            )
        except (RefusedError, UnavailableError, OutcomeUnknownError) as exc:
            raise retry_later("queue-unavailable", str(exc)) from None

    return put


def resources(design: str, settings: Settings) -> Resources:
    async def open_all(app: web.Application) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            pool = await store.connect(settings.database_url, min_size=1, max_size=4)
            stack.push_async_callback(pool.close)
            app[keys.KEYS] = Keys(pool, time.monotonic)
            app[keys.SALES] = Sales(pool, time.monotonic)
            if design == "sync":
                plain = await stack.enter_async_context(asyncpg.create_pool(settings.database_url))
                app[STORE] = in_transaction(plain.acquire)
            elif design.startswith("sync"):
                opened = [await asyncpg.connect(settings.database_url) for _ in range(settings.connections)]
                for connection in opened:
                    stack.push_async_callback(connection.close)
                put = in_transaction if design == "sync-tuned" else in_one_call
                app[STORE] = put(Connections(opened).one)
            else:
                js = await stack.enter_async_context(
                    await JetStream.connect(settings.nats_url, name=f"bench-{design}")
                )
                app[STORE] = in_stream(js)
            yield

    return open_all


async def echo(request: web.Request) -> web.Response:
    """(e): reads the request and answers; no credential, no validation, nothing stored."""
    await request.read()
    return web.Response(body=_ECHO, status=202, headers={"Content-Type": "application/json"})


def create_app(design: str, settings: Settings) -> web.Application:
    if design == "echo":
        app = web.Application()
        app.router.add_post("/v1/sales/{sale_id}/orders", echo)
        return app
    app = web.Application(middlewares=[problems], client_max_size=settings.max_body_bytes)
    app.cleanup_ctx.append(resources(design, settings))
    app.router.add_post("/v1/sales/{sale_id}/orders", create_order)
    return app


async def serve(design: str, settings: Settings, service: Service) -> None:
    runner = web.AppRunner(create_app(design, settings), access_log=None, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.port, backlog=4096, reuse_port=True).start()
        service.ready()
        await service.stopping.wait()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    chosen = Settings.load()
    run_service(f"bench-{sys.argv[1]}", chosen, lambda service: serve(sys.argv[1], chosen, service))
