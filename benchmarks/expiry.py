"""Expiry: a hundred thousand unpaid orders whose time is up in the same second, while others are being accepted.

Two questions. Does the reaper keep its rate? Orders are cancelled without a break, and the database's own
timestamps tell. Does accepting notice? The same steady load is sent again and again, with the reaper at work and
with the reaper paused in turn; the latencies of one round are compared with each other.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from benchmarks import machine
from benchmarks.designs import BY_NAME
from benchmarks.drain import columns
from benchmarks.environment import TENANT, Environment, environment, make_sale
from benchmarks.errors import BenchmarkError
from benchmarks.load import Run, Target, run
from benchmarks.options import Options
from benchmarks.served import RELAY_NICE, served
from benchmarks.stats import ratio, significant
from peakclip import messages, topology
from peakclip.limiter.pace import set_pace
from peakclip.messages import Order
from peakclip.store import query

_SALE: Final = "bench"
_DUE_SALE: Final = "due"
_INSERT: Final = 1_000
_STATES: Final = ("paused", "reaping")
_SETTLE_SECONDS: Final = 2.0  # a change of the pace is in force everywhere after 1.3 s
_LONGEST_SECONDS: Final = 600.0


async def measure(options: Options, say: Callable[[str], None]) -> dict[str, Any]:
    """The result as it is kept."""
    async with environment(lazy=False) as env:
        about = await machine.describe(env.database, env.folder.path)
        for sale in (_SALE, _DUE_SALE):
            await make_sale(env, sale)
        bench = _Bench(env, options, say)
        await bench.make_due()
        await bench.pause(True)
        async with served(env, [BY_NAME["peakclip"]], options.processes, 1) as targets:
            worker = ["worker", "--pool", topology.REAPER_POOL]
            # One is what the operator supplies: it could cancel several times as many.
            async with env.running(env.process("reaper", "peakclip", worker, nice=RELAY_NICE)):
                await bench.all_queued()
                rounds = await bench.rounds(targets["peakclip"])
                await bench.pause(False)
                rate = await bench.alone()
    return {**about, "rounds": rounds, **summary(rounds, rate)}


class _Bench:
    def __init__(self, env: Environment, options: Options, say: Callable[[str], None]) -> None:
        self._env = env
        self._options = options
        self._say = say
        self._numbers = itertools.count()

    async def make_due(self) -> None:
        """The orders, drained as any, all due at the same moment."""
        left = self._options.due_orders
        while left > 0:
            await self._env.database.fetchrow(
                query("drain_seckill"), *columns(self._orders(min(left, _INSERT)))
            )
            left -= _INSERT
        await self._env.database.execute("truncate outbox")
        await self._env.database.execute(
            "update orders set expires_at = date_trunc('second', clock_timestamp()) - interval '1 second'"
        )
        await self._env.database.execute("vacuum analyze orders")

    def _orders(self, count: int) -> Sequence[Order]:
        def one() -> Order:
            number = next(self._numbers)
            order_id = messages.order_id(TENANT, f"due-{number}")
            return Order(order_id, TENANT, f"c-{number}", _DUE_SALE, 1, "0123456789abcdef", time.time())

        return [one() for _ in range(count)]

    async def pause(self, paused: bool) -> None:
        await set_pace(
            self._env.js, topology.REAPER_POOL, limit_per_second=self._options.reaper_rate, paused=paused
        )
        await asyncio.sleep(_SETTLE_SECONDS)

    async def all_queued(self) -> None:
        """The relay's sweep has found every one of them; how long it took is said."""
        began = time.monotonic()
        while True:
            state = await self._env.js.consumer_state(topology.EXPIRY, topology.REAPER_POOL)
            if state.pending + state.ack_pending >= self._options.due_orders:
                break
            _check(began)
            await asyncio.sleep(0.05)
        self._say(f"{self._options.due_orders:,} orders queued in {time.monotonic() - began:.1f} s")

    async def rounds(self, target: Target) -> list[dict[str, Any]]:
        await run(target, self._options.first_orders, connections=self._options.expiry_connections)
        found = []
        for number in range(1, self._options.expiry_rounds + 1):
            order = _STATES if number % 2 else tuple(reversed(_STATES))
            for state in order:
                await self.pause(state == "paused")
                before = await self._cancelled()
                one = await self._load(target)
                cancelled = await self._cancelled() - before
                if state == "reaping" and not cancelled:
                    raise BenchmarkError("The reaper did nothing in this round.")
                found.append({"round": number, "state": state, "cancelled": cancelled, **one.to_json()})
                latencies = f"p50 {one.p50_ms:6.1f} ms  p99 {one.p99_ms:6.1f} ms"
                self._say(f"round {number}  {state:8} {latencies}  {cancelled:6,} cancelled")
        return found

    async def _load(self, target: Target) -> Run:
        rate = self._options.expiry_load_rate
        orders = int(rate * self._options.expiry_seconds)
        return await run(target, orders, connections=self._options.expiry_connections, rate=rate)

    async def _cancelled(self) -> int:
        return int(
            await self._env.database.fetchval("select count(*) from orders where status = 'cancelled'")
        )

    async def alone(self) -> dict[str, Any]:
        """The rest without a break and without other load: mean rate and the most in any second, by commits."""
        began = time.monotonic()
        since = await self._env.database.fetchval("select clock_timestamp()")
        while await self._cancelled() < self._options.due_orders:
            _check(began)
            await asyncio.sleep(0.2)
        row = await self._env.database.fetchrow(
            "select count(*) as orders, extract(epoch from max(cancelled_at) - min(cancelled_at))::float8 as seconds"
            " from orders where cancelled_at > $1", since,
        )  # fmt: skip
        most = await self._env.database.fetchval(
            "select max(n) from (select count(*) over (order by cancelled_at range between current row"
            " and interval '1 second' following) as n from orders where cancelled_at > $1) w", since,
        )  # fmt: skip
        sale = await self._env.database.fetchrow("select * from sales where sale_id = $1", _DUE_SALE)
        if sale["available"] != sale["initial"]:
            raise BenchmarkError("Not every unit has returned.")
        return {
            "orders": row["orders"],
            "seconds": round(row["seconds"], 3),
            "most_in_a_second": most,
            "limit": self._options.reaper_rate,
        }


def _check(began: float) -> None:
    if time.monotonic() - began > _LONGEST_SECONDS:
        raise BenchmarkError("The reaper did not come to an end in time.")


def summary(rounds: Sequence[dict[str, Any]], rate: dict[str, Any]) -> dict[str, Any]:
    """Ratios of latencies within each round, and the reaper's rate against its limit. Pure."""
    table: dict[int, dict[str, float]] = {}
    p50: dict[int, dict[str, float]] = {}
    for one in rounds:
        table.setdefault(one["round"], {})[one["state"]] = one["p99_ms"]
        p50.setdefault(one["round"], {})[one["state"]] = one["p50_ms"]
    mean = rate["orders"] / rate["seconds"] if rate["seconds"] else float("nan")
    return {
        "p99_ratio": ratio(list(table.values()), "reaping", "paused").to_json(),
        "p50_ratio": ratio(list(p50.values()), "reaping", "paused").to_json(),
        "rate": {
            **rate,
            "mean": significant(mean, 6),
            "error_percent": round((mean / rate["limit"] - 1) * 100, 3),
        },
    }
