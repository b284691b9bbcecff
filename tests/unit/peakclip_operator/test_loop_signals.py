"""All that the ports say reaches the plan, and what they cannot say is unknown there."""

from __future__ import annotations

from dataclasses import replace

from simulation.model import Pool

from peakclip.errors import UnavailableError
from peakclip_operator.loop import ControlLoop
from peakclip_operator.plan import PoolSpec
from peakclip_operator.ports import Workers


class Counting:
    def __init__(self, number: int | None) -> None:
        self.number = number

    async def read(self) -> int:
        if self.number is None:
            raise UnavailableError
        return self.number


class Starting:
    async def current(self) -> Workers:
        return Workers(running=2, starting=3, draining=1)

    async def scale_to(self, replicas: int, idle_first: object) -> None:
        pass


async def test_ready_delayed_and_scheduled_are_seen_or_unknown() -> None:
    pool = Pool(PoolSpec(), lambda now: 0.0)
    delayed, scheduled = Counting(4), Counting(5)
    ports = replace(pool.loop._ports, scaler=Starting(), delayed=delayed, scheduled=scheduled)
    pool.loop = ControlLoop("simulated", PoolSpec(), ports, clock=lambda: pool.now)
    (status,) = await pool.run(0.5)
    names = ("observed_workers", "ready_workers", "lag_delayed", "lag_scheduled")
    assert [status.inputs[name] for name in names] == [5, 2, 4, 5]
    assert (status.lag_delayed, status.lag_scheduled, status.workers_current) == (4, 5, 2)
    delayed.number = scheduled.number = None
    (status,) = await pool.run(0.5)
    assert [status.inputs[name] for name in names] == [5, 2, None, None]
    assert "delayed" in status.unknown
    assert set(pool.loop.failures) == {"delayed", "scheduled"}


async def test_a_pool_without_timers_is_not_asked_for_them() -> None:
    pool = Pool(PoolSpec(), lambda now: 0.0)
    (status,) = await pool.run(0.5)
    assert (status.lag_scheduled, pool.loop.failures) == (None, {})
