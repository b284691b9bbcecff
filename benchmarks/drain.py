"""Draining: a transaction per order against Peakclip's batches, in turn, on the same tables with the same rows."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import asyncpg

from benchmarks import machine, statements
from benchmarks.designs import BY_NAME, DRAIN
from benchmarks.environment import TENANT, Environment, environment, make_sale
from benchmarks.errors import BenchmarkError
from benchmarks.options import Options
from benchmarks.stats import orders_for, ratio, spread, with_best
from peakclip import messages, topology
from peakclip.jetstream import OutMessage
from peakclip.limiter.grid import GREATEST_RATE
from peakclip.limiter.pace import set_pace
from peakclip.messages import Order
from peakclip.store import query
from peakclip_worker.relay import BATCH, store_all

_SALE: Final = "drain"
_PAY_SECONDS: Final = 900
_TRANSACTIONS: Final = ("tx-1", "tx-4", "tx-16")
_BATCHES: Final = ("batch-64", "batch-256", "batch-1000")
_BEST_TX, _BEST_BATCH = "best-tx", "best-batch"
_FIRST_ORDERS: Final = 64
_MOST_ORDERS: Final = 100_000
_WORKER_SECONDS: Final = 60.0
_RATIOS: Final = (
    *((batch, "tx-1") for batch in _BATCHES),
    (_BEST_BATCH, _BEST_TX),
    (_BEST_BATCH, "batch-1"),
    ("worker", "tx-1"),
)


async def measure(options: Options, say: Callable[[str], None]) -> dict[str, Any]:
    """The result as it is kept."""
    async with environment(lazy=False) as env:
        about = await machine.describe(env.database, env.folder.path)
        await make_sale(env, _SALE)
        await set_pace(env.js, topology.ORDERS_POOL, limit_per_second=GREATEST_RATE)
        async with contextlib.AsyncExitStack() as stack:
            connections = [await asyncpg.connect(env.postgres.url) for _ in range(16)]
            for connection in connections:
                stack.push_async_callback(connection.close)
            bench = _Bench(env, connections)
            sizes = {
                design.name: options.fixed_orders or await bench.size_of(design.name, options.drain_seconds)
                for design in DRAIN
            }
            rounds = []
            for number in range(1, options.rounds + 1):
                for name, orders in sizes.items():
                    seconds = await bench.run(name, orders)
                    rounds.append(
                        {"round": number, "design": name, "orders": orders, "seconds": round(seconds, 5)}
                    )
                    say(f"round {number}  {BY_NAME[name].words:44} {orders / seconds:9,.0f}/s")
    return {**about, "rounds": rounds, **summary(rounds)}


class _Bench:
    def __init__(self, env: Environment, connections: Sequence[Any]) -> None:
        self._env = env
        self._connections = connections
        self._numbers = itertools.count()

    async def size_of(self, design: str, seconds: float) -> int:
        """Warms the design up and finds how many orders take the wanted time."""
        orders = _FIRST_ORDERS
        for wanted in (seconds / 3, seconds):
            rate = orders / await self.run(design, orders)
            orders = orders_for(rate, wanted, least=_FIRST_ORDERS, most=_MOST_ORDERS)
        return orders

    async def run(self, design: str, count: int) -> float:
        """Seconds for `count` new orders into empty tables; checks that they are there."""
        await self._env.database.execute("truncate orders, outbox, superseded_reservations")
        await self._env.database.execute("checkpoint")
        token = secrets.token_hex(4)
        orders = [self._order(token) for _ in range(count)]
        if design == "worker":
            seconds = await self._by_worker(orders)
        else:
            kind, _, number = design.partition("-")
            do = self._by_transactions if kind == "tx" else self._by_batches
            began = time.perf_counter()
            await do(orders, int(number))
            seconds = time.perf_counter() - began
        stored = await self._env.database.fetchval(
            "select count(*) from orders o join outbox e on e.message_id = o.order_id || ':1'"
            " where o.status = 'pending_payment'"
        )
        if stored != count:
            raise BenchmarkError(f"{design}: {stored:,} of {count:,} orders are in the database.")
        return seconds

    def _order(self, token: str) -> Order:
        number = next(self._numbers)
        order_id = messages.order_id(TENANT, f"{token}-{number}")
        return Order(order_id, TENANT, f"c-{token}-{number}", _SALE, 1, "0123456789abcdef", time.time())

    async def _by_transactions(self, orders: Sequence[Order], connections: int) -> None:
        left = iter(orders)  # shared: who is free takes the next
        await asyncio.gather(*(_transactions(one, left) for one in self._connections[:connections]))

    async def _by_batches(self, orders: Sequence[Order], size: int) -> None:
        statement = await self._connections[0].prepare(query("drain_seckill"))
        for first in range(0, len(orders), size):
            await statement.fetchrow(*columns(orders[first : first + size]))

    async def _by_worker(self, orders: Sequence[Order]) -> float:
        """From the first start that the limiter gave to the last commit, by the database's own timestamps."""
        frame = secrets.token_hex(10)
        headers = {topology.FRAME_HEADER: frame}
        out = [
            OutMessage(
                topology.seckill_subject(_SALE),
                messages.encode(order),
                {**headers, "Nats-Msg-Id": f"{frame}.{index}"},
            )
            for index, order in enumerate(orders)
        ]
        for first in range(0, len(out), BATCH):
            await store_all(self._env.js, out[first : first + BATCH])
        database = self._env.database

        async def drained() -> bool:
            return bool(await database.fetchval("select count(*) from orders") == len(orders))

        spec = self._env.process("worker", "peakclip", ["worker", "--pool", topology.ORDERS_POOL])
        async with self._env.running(spec):
            await _until(drained)
        return float(
            await database.fetchval(
                "select extract(epoch from max(committed_at) - min(started_at))::float8 from orders"
            )
        )


async def _transactions(connection: Any, orders: Any) -> None:
    """One transaction per order, statements prepared, the sale's row taken last so that it is held shortly."""
    insert = await connection.prepare(statements.INSERT_ORDER)
    bought = await connection.prepare(statements.BOUGHT)
    event = await connection.prepare(statements.INSERT_EVENT)
    take = await connection.prepare(statements.TAKE_STOCK)
    for order in orders:
        names = (order.order_id, order.tenant, order.customer_id, order.sale_id, order.quantity)
        async with connection.transaction():
            await insert.fetchval(*names, order.fingerprint, _PAY_SECONDS)
            within = await bought.fetchval(order.sale_id, order.customer_id)
            await event.fetchval(*names)
            if not (within and await take.fetchval(order.sale_id, order.quantity)):
                raise BenchmarkError("An order was refused that should not have been.")


def columns(orders: Sequence[Order]) -> tuple[Any, ...]:
    """What the worker passes to the statement."""
    return (
        [order.order_id for order in orders],
        [order.tenant for order in orders],
        [order.customer_id for order in orders],
        [order.sale_id for order in orders],
        [order.quantity for order in orders],
        ["frame"] * len(orders),
        [order.fingerprint for order in orders],
        [order.accepted_at for order in orders],
        [order.traceparent for order in orders],
        time.time(),
    )


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + _WORKER_SECONDS
    while not await holds():
        if time.monotonic() > deadline:
            raise BenchmarkError("The worker did not drain its orders in time.")
        await asyncio.sleep(0.1)


def summary(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians of each design, and ratios of designs that ran in the same round. Pure."""
    rates: dict[int, dict[str, float]] = {}
    for one in rounds:
        rates.setdefault(one["round"], {})[one["design"]] = one["orders"] / one["seconds"]
    table = with_best(with_best(list(rates.values()), _BEST_TX, _TRANSACTIONS), _BEST_BATCH, _BATCHES)
    designs = {name: {"per_second": spread(one[name] for one in table).to_json()} for name in rates[1]}
    return {"designs": designs, "ratios": [ratio(table, over, under).to_json() for over, under in _RATIOS]}
