"""One pool on one machine: its control loop with everything that the loop needs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Awaitable, Callable

import msgspec
import structlog

from peakclip import topology
from peakclip.clocks import Clocks
from peakclip.errors import PeakclipError
from peakclip.jetstream import JetStream
from peakclip_operator.lag import JetStreamDelayed, JetStreamLag, JetStreamScheduled
from peakclip_operator.lanes import Member, SharedRates, demand_of
from peakclip_operator.loop import ControlLoop
from peakclip_operator.memory import NatsMemory
from peakclip_operator.pace import NatsPace
from peakclip_operator.ports import Ports, Scaler
from peakclip_operator.settings import OperatorSettings
from peakclip_operator.status import NatsStatus
from peakclip_operator.telemetry_source import NatsTelemetry

log = structlog.get_logger()

_LONGEST_DELAY_SECONDS = 2.0
GROUP = "machine.database"
"""All pools of a machine share one rate, if any."""


class PoolOperator:
    """Looks after a pool of `topology.POOLS`, as soon as its stream and its consumer are there."""

    def __init__(
        self,
        pool: str,
        settings: OperatorSettings,
        js: JetStream,
        scaler: Scaler,
        shared: SharedRates | None = None,
        *,
        clocks: Clocks | None = None,
    ) -> None:
        clocks = clocks or Clocks(steady=time.monotonic)
        self._shared = shared or SharedRates()
        self._pool = topology.POOLS[pool]
        self._settings = settings
        self._scaler = scaler
        self._lag = JetStreamLag(js, self._pool.stream, pool)
        self._heard = NatsTelemetry(js, pool, clock=clocks.epoch)
        self._pace = NatsPace(js, pool)
        self._loop = ControlLoop(
            pool,
            settings.spec(pool),
            Ports(
                lag=self._lag,
                delayed=JetStreamDelayed(js, pool, clock=clocks.steady),
                telemetry=self._heard,
                scaler=scaler,
                pace=self._pace,
                pace_sink=self._pace,
                status=NatsStatus(js),
                scheduled=JetStreamScheduled(js, clock=clocks.steady)
                if self._pool.stream == topology.EXPIRY
                else None,
                memory=NatsMemory(js, pool, f"{self._pool.stream}/{pool} on one machine"),
            ),
            clock=clocks.epoch,
            tick_seconds=settings.tick_seconds,
        )

    def knows_its_lag(self) -> bool:
        return self._loop.decision is not None and self._loop.decision.valid

    async def run(self, stopping: asyncio.Event) -> None:
        """Until `stopping` is set. The workers are the scaler's: whoever made it ends them."""
        if await self._prepare(stopping):
            self._shared.join(self._pool.name, self._member(), functools.partial(demand_of, self._loop))
            await self._loop.run(stopping)

    def _member(self) -> Member | None:
        """Its own limit is what was set last, so the live one counts: the loop reads it."""
        settings, name = self._settings, self._pool.name
        if settings.shared_rate is None:
            return None
        wanted = settings.of(name)
        return Member(
            pool=name,
            group=GROUP,
            group_limit=settings.shared_rate,
            limit=None,
            priority=wanted.priority,
            weight=wanted.weight,
            guarantee=wanted.guaranteed_rate,
        )

    async def _prepare(self, stopping: asyncio.Event) -> bool:
        """False when `stopping` is set before everything is in place."""
        wanted, name = self._settings.of(self._pool.name), self._pool.name
        default = self._pool.default_limit_per_second
        group = GROUP if self._settings.shared_rate is not None else None
        steps: dict[str, Callable[[], Awaitable[object]]] = {
            "pace": lambda: self._pace.prepare(wanted.rate, default, group),
            "consumer": self._lag.read,
            # Without the loop's patience: the first start waits until the fork server has imported the worker.
            "workers": lambda: self._scaler.scale_to(wanted.min_workers, []),
        }
        await self._heard.listen()
        for what, ready in steps.items():
            if not await _until_ready(ready, stopping, pool=name, for_what=what):
                return False
        return True


async def _until_ready(ready: Callable[[], Awaitable[object]], stopping: asyncio.Event, **words: str) -> bool:
    """Tries until it works: processes may start in any order, and one pool's trouble must not end the others.

    False when `stopping` is set first.
    """
    delay = 0.05
    while not stopping.is_set():
        try:
            await ready()
            return True
        except (PeakclipError, OSError, msgspec.MsgspecError) as exc:
            log.info("waiting", error=str(exc), **words)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await stopping.wait()
        delay = min(_LONGEST_DELAY_SECONDS, delay * 2)
    return False
