"""A stack that drains at R with customers who go on buying; a scenario after the other; then the judges.

R is far below what two cores can do: what is compared is a rate that the limiter keeps, so a percent can be seen. A
drain without a limit differs by more than that from one second to the next. There is always a backlog: a rate that is
too low is the drain's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Final

from faults.buyers import Buyers, keep_buying
from faults.judge import findings
from faults.system import System, running
from support import until

from benchmarks import machine
from benchmarks.chaos.rates import Phases, row, summary
from benchmarks.chaos.scenarios import SCENARIOS, Ground, Locks
from benchmarks.options import Options
from peakclip import topology
from peakclip.load.access import create_sale
from peakclip.local.folder import temporary

_WORKERS: Final = 2  # as the public benchmark has
_STOCK: Final = 10_000_000
_ARRIVALS: Final = 0.8  # of R: what a scenario leaves undone does not grow from one to the next
_BACKLOG_SECONDS: Final = 4.0  # at R, at the end of a scenario at least
_PIECE_SECONDS: Final = 1.0  # of a wave of customers
_CONNECTIONS: Final = 32
_REST_SECONDS: Final = 300.0  # until all of the backlog is done


async def measure(options: Options, say: Callable[[str], None]) -> dict[str, Any]:
    """The result as it is kept."""
    about: dict[str, Any] = {}
    rounds: list[dict[str, Any]] = []
    checks: list[dict[str, Any]] = []
    names = list(SCENARIOS)
    for number in range(1, options.chaos_rounds + 1):
        async with _Round(options, number) as one:
            about = about or await machine.describe(one.system.database, one.folder)
            for name in names:
                found = {"round": number, "design": name, **await one.run(name)}
                rounds.append(found)
                say(f"round {number}  {words(found)}")
            checks.append({"round": number, **await one.judged()})
            say(f"round {number}  {checks[-1]}")
        names = [*names[1:], names[0]]  # none is always the one after the same other
    return {**about, "rounds": rounds, "checks": checks, **summary(rounds, checks)}


def words(found: dict[str, Any]) -> str:
    first = found["first_success_seconds"]
    return (
        f"{found['design']:17} {found['baseline_per_second']:7.1f}/s, {found['during_per_second']:7.1f}/s,"
        f" {found['after_per_second']:7.1f}/s afterwards: {found['ratio']:.2%}; first after"
        f" {'ever' if first is None else f'{first:.2f} s'}; R whole after {found['whole_seconds']} s, then"
        f" {found['later_per_second']:7.1f}/s: {found['later_ratio']:.2%}"
    )


class _Round(contextlib.AbstractAsyncContextManager["_Round"]):
    system: System
    folder: Path

    def __init__(self, options: Options, number: int) -> None:
        self._options = options
        self._chance = random.Random(number)
        self._exit = contextlib.AsyncExitStack()

    async def __aenter__(self) -> _Round:
        async with contextlib.AsyncExitStack() as undo:
            self.folder = Path(tempfile.mkdtemp(prefix="peakclip-chaos-", dir=temporary()))
            undo.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self.folder.chmod(0o711)  # PostgreSQL's account goes through it
            self._locks = Locks(self.folder)
            stack = running(
                self.folder / "data", adapt=self._locks.adapt, rate=self._options.chaos_rate,
                min_workers=_WORKERS, max_workers=_WORKERS,
            )  # fmt: skip
            self.system = await undo.enter_async_context(stack)
            given = self.system.credentials
            self._sale = await create_sale(given["url"], given["admin"], stock=_STOCK)
            self._buyers = Buyers(given["url"], given["service"], self._chance)
            self._exit = undo.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._exit.aclose()

    async def run(self, name: str) -> dict[str, Any]:
        options = self._options
        ground = Ground(self.system, self._locks, self._chance, options.chaos_fault_seconds)
        await self._everybody_at_work()
        async with self._buying():
            began = time.time()
            await asyncio.sleep(options.chaos_seconds)
            harmed = time.time()
            over = await SCENARIOS[name](ground)
            await asyncio.sleep(options.chaos_recovery_seconds)
            settled = time.time()
            await asyncio.sleep(options.chaos_seconds)
            whole = await self._whole_rate(over.back)
            await asyncio.sleep(options.chaos_seconds)
            later = time.time()
        ended = settled + options.chaos_seconds
        phases = Phases(began, harmed, over.mended, over.back, settled, ended, whole, later)
        successes = await self._commits(over.mended, started_since=over.mended if over.workers_died else 0.0)
        return row(await self._commits(began - 1.0), sorted(self._buyers.answered), phases, successes)

    async def _whole_rate(self, back: float) -> float | None:
        """When R was in force again for good, by the controller's own word; epoch seconds."""
        rate = self._options.chaos_rate

        def whole() -> bool:
            heard = self.system.statuses[-1]
            return heard.at > back and heard.effective_per_second >= rate

        try:
            await until(whole, self._options.chaos_whole_seconds, pause=0.1)
        except AssertionError:
            return None
        lowered = [
            one.at for one in self.system.statuses if one.at > back and one.effective_per_second < rate
        ]
        return max(lowered, default=back)

    async def judged(self) -> dict[str, Any]:
        """At rest: the auditor's counts, and how many things the checker of histories found."""
        buyers, rate = self._buyers, self._options.chaos_rate
        audit = await self.system.audit(buyers.accepted, rate, _REST_SECONDS)
        found = await findings(self.system, buyers.history, rate)
        return {
            "accepted": len(buyers.accepted),
            "lost": audit.lost,
            "duplicated": audit.duplicated,
            "oversold": audit.oversold,
            "undersold": audit.undersold,
            "findings": len(found) + len(audit.violations) + len(buyers.wrong),
        }

    async def _everybody_at_work(self) -> None:
        """All processes ready, all workers heard, and a backlog."""
        await self.system.until_ready()
        await until(lambda: len(self.system.pids(topology.ORDERS_POOL)) >= _WORKERS, 60, pause=0.1)
        options = self._options
        lasts = 3 * options.chaos_seconds + options.chaos_fault_seconds + options.chaos_recovery_seconds
        wanted = round(options.chaos_rate * ((1.0 - _ARRIVALS) * lasts + _BACKLOG_SECONDS))
        lag = await self.system.js.consumer_state(topology.SECKILL, topology.ORDERS_POOL)
        if (missing := wanted - lag.pending - lag.ack_pending) > 0:
            await self._buyers.wave(self._sale, missing, connections=_CONNECTIONS, again=0.0)

    @contextlib.asynccontextmanager
    async def _buying(self) -> AsyncIterator[None]:
        """Customers, at a steady rate, for as long as this lasts."""
        over = asyncio.Event()
        rate = self._options.chaos_rate * _ARRIVALS

        buying = keep_buying(self._buyers, self._sale, over, rate, _PIECE_SECONDS, again=0.0)
        task = asyncio.create_task(buying, name="buying")
        try:
            yield
        finally:
            over.set()
            await task

    async def _commits(self, since: float, started_since: float = 0.0) -> Sequence[float]:
        rows = await self.system.database.fetch(
            "select extract(epoch from committed_at)::float8 as at from orders"
            " where committed_at >= to_timestamp($1) and started_at >= to_timestamp($2) order by 1",
            since, started_since,
        )  # fmt: skip
        return [one["at"] for one in rows]
