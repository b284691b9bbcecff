"""Accepting: every design in turn, round after round, then the latency at half of the measured capacity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks import machine
from benchmarks.designs import ACCEPT, BY_NAME
from benchmarks.environment import BENCH_STREAM, Environment, environment, make_sale, settled
from benchmarks.errors import BenchmarkError
from benchmarks.load import Run, Target, run
from benchmarks.options import Options
from benchmarks.served import SALE, SALES, served
from benchmarks.stats import orders_for, ratio, spread
from peakclip import topology

_MOST_ORDERS: Final = 100_000
_HALF_LOAD: Final = ("peakclip", "sync")
_RATIOS: Final = (
    ("peakclip", "sync"),
    ("peakclip", "sync-tuned"),
    ("peakclip", "sync-one-call"),
    ("peakclip", "lazy"),
    ("peakclip", "always"),
    ("peakclip", "echo"),
)
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Measured:
    """One run in its round."""

    round: int
    design: str
    run: Run

    def to_json(self) -> dict[str, Any]:
        return {"round": self.round, "design": self.design, **self.run.to_json()}


async def measure(options: Options, say: Say) -> dict[str, Any]:
    """The result as it is kept: every run, and what follows from them."""
    async with environment(lazy=True) as env:
        about = await machine.describe(env.database, env.folder.path)
        for sale in {SALE, *SALES.values()}:
            await make_sale(env, sale)
        connections, trials = await _tuned(env, options)
        say(f"(a') and (a'') have {connections} connections in each process: the fastest")
        async with served(env, ACCEPT, options.processes, connections) as targets:
            bench = _Bench(env, options, targets, say)
            sizes = {design.name: await bench.size_of(design.name) for design in ACCEPT}
            rounds = await bench.rounds(sizes)
            half = await bench.half_load(rounds)
    tuned = {"sync_connections": connections, "sync_trials": trials}
    return {**about, **tuned, "rounds": [one.to_json() for one in rounds], **summary(rounds), **half}


async def _tuned(env: Environment, options: Options) -> tuple[int, dict[int, float]]:
    """How many connections (a') is fastest with: every order locks the sale's row, so more may be slower."""
    candidates = options.sync_connections
    rates: dict[int, float] = {}
    for connections in candidates if len(candidates) > 1 else ():
        async with served(env, [BY_NAME["sync-tuned"]], options.processes, connections) as targets:
            target = targets["sync-tuned"]
            first = await run(target, options.first_orders // 2, connections=options.connections)
            orders = orders_for(first.per_second, options.seconds / 2, least=20, most=_MOST_ORDERS)
            rates[connections] = (await run(target, orders, connections=options.connections)).per_second
    return max(rates, key=rates.__getitem__, default=candidates[0]), rates


class _Bench:
    def __init__(self, env: Environment, options: Options, targets: dict[str, Target], say: Say) -> None:
        self._env = env
        self._options = options
        self._targets = targets
        self._say = say

    async def size_of(self, design: str) -> int:
        """Warms the design up and finds how many orders take the wanted time: the same number in every round."""
        if self._options.fixed_orders is not None:
            return self._options.fixed_orders
        first = await self._checked(design, self._options.first_orders)
        more = orders_for(first.per_second, self._options.seconds / 3, least=20, most=_MOST_ORDERS)
        second = await self._checked(design, more)
        return orders_for(second.per_second, self._options.seconds, least=20, most=_MOST_ORDERS)

    async def rounds(self, sizes: dict[str, int]) -> list[Measured]:
        found = []
        for number in range(1, self._options.rounds + 1):
            for design, orders in sizes.items():
                found.append(one := Measured(number, design, await self._checked(design, orders)))
                self._told(one)
        return found

    async def half_load(self, rounds: Sequence[Measured]) -> dict[str, Any]:
        """Open loop: orders come by the clock, however long the answers take, and wait from when they were due."""
        rates = {
            design: 0.5 * spread(one.run.per_second for one in rounds if one.design == design).median
            for design in _HALF_LOAD
        }
        found = []
        for number in range(1, self._options.half_load_rounds + 1):
            for design, rate in rates.items():
                orders = orders_for(rate, self._options.half_load_seconds, least=20, most=_MOST_ORDERS)
                one = Measured(number, design, await self._checked(design, orders, rate))
                found.append(one)
                self._told(one, "half load ")
        return {"half_load_rounds": [one.to_json() for one in found], **half_load_summary(rates, found)}

    async def _checked(self, design: str, orders: int, rate: float | None = None) -> Run:
        """A run whose orders are then looked for where the design says that it puts them."""
        await settled(self._env)
        before = await self._stored(design)
        done = await run(self._targets[design], orders, connections=self._options.connections, rate=rate)
        await settled(self._env)
        stored = await self._stored(design) - before
        if design != "echo" and stored != orders:
            raise BenchmarkError(f"{design}: {orders:,} orders were accepted and {stored:,} are stored.")
        return done

    async def _stored(self, design: str) -> int:
        env = self._env
        if design.startswith("sync"):
            return int(await env.database.fetchval("select count(*) from orders"))
        if design == "peakclip":
            return (await env.js.stream_state(topology.SECKILL)).messages
        js = env.lazy_js if design == "lazy" else env.js
        return (await js.stream_state(BENCH_STREAM)).messages if js is not None else 0

    def _told(self, one: Measured, what: str = "") -> None:
        at = BY_NAME[one.design]
        self._say(
            f"{what}round {one.round}  {at.letter:2} {at.words:40} {one.run.per_second:9,.0f}/s"
            f"  p50 {one.run.p50_ms:7.1f} ms  p99 {one.run.p99_ms:7.1f} ms"
        )


def summary(rounds: Sequence[Measured]) -> dict[str, Any]:
    """Medians of each design, and the ratios of designs that ran in the same round. Pure."""
    names = list(dict.fromkeys(one.design for one in rounds))
    designs = {}
    for name in names:
        runs = [one.run for one in rounds if one.design == name]
        designs[name] = {
            "orders": runs[0].orders,
            "per_second": spread(run.per_second for run in runs).to_json(),
            "p50_ms": spread(run.p50_ms for run in runs).to_json(),
            "p99_ms": spread(run.p99_ms for run in runs).to_json(),
            "cpu_us_per_order": {
                role: spread(run.cpu_us_per_order[role] for run in runs).median
                for role in runs[0].cpu_us_per_order
            },
        }
    rates = [
        {one.design: one.run.per_second for one in rounds if one.round == number}
        for number in sorted({one.round for one in rounds})
    ]
    ratios = [ratio(rates, over, under).to_json() for over, under in _RATIOS]
    return {"designs": designs, "ratios": ratios}


def half_load_summary(rates: dict[str, float], runs: Sequence[Measured]) -> dict[str, Any]:
    """Latency of each design at half of its own capacity. Pure."""
    found = {}
    for design, rate in rates.items():
        own = [one.run for one in runs if one.design == design]
        found[design] = {
            "rate_per_second": round(rate, 1),
            "p50_ms": spread(run.p50_ms for run in own).to_json(),
            "p99_ms": spread(run.p99_ms for run in own).to_json(),
        }
    return {"half_load": found}
