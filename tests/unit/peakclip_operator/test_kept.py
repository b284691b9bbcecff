"""A controller that begins anew goes on where the one before it was: on the virtual clock, with a store in memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
import structlog
from simulation.model import Pool

from peakclip.errors import UnavailableError
from peakclip_operator.kept import RECALL_SECONDS, SAVE_SECONDS, KeptMemory
from peakclip_operator.loop import ControlLoop
from peakclip_operator.memory import decode, encode
from peakclip_operator.plan import Decision, Fallback, Memory, PoolSpec
from peakclip_operator.ports import Ports

SPEC = PoolSpec(stabilization_seconds=30)


@dataclass
class Store:
    """As the bucket keeps it."""

    body: bytes | None = None
    saves: list[float] = field(default_factory=list)
    away: bool = False
    unreadable: bool = False

    async def load(self, now: float) -> Memory | None:
        if self.away or self.unreadable:
            raise UnavailableError
        return None if self.body is None else decode(self.body, "", now)[0]

    async def save(self, memory: Memory, now: float) -> None:
        if self.away:
            raise UnavailableError
        self.saves.append(now)
        self.body = encode(memory, "", now)


def begin(pool: Pool, store: Store | None) -> None:
    """A controller that knows nothing but what is kept."""
    ports: Ports = replace(pool.loop._ports, memory=store)
    pool.loop = ControlLoop("simulated", pool.spec, ports, clock=lambda: pool.now)


def draining(store: Store | None) -> Pool:
    """Slow workers, so that the guess with which a controller begins is far off."""
    pool = Pool(SPEC, lambda now: 60_000 if 1_020 < now <= 1_021 else 0.0, per_worker=9.0)
    begin(pool, store)
    return pool


def numbers(statuses: list[Any]) -> list[int]:
    return [status.workers_desired for status in statuses]


@pytest.mark.parametrize("pause", [0.0, 1.5, 4.0, 20.0, 200.0])
async def test_a_restart_in_the_middle_of_a_drain_makes_no_step(pause: float) -> None:
    store = Store()
    pool = draining(store)
    before = (await pool.run(60))[-1]
    learned = pool.loop.memory.counters.speed.value
    assert before.workers_desired is not None
    assert learned == pytest.approx(9, rel=0.05)
    for _ in range(round(pause / 0.05)):
        pool._step()
    begin(pool, store)
    after = await pool.run(20)
    assert set(numbers(after)) == {before.workers_desired}
    assert after[0].per_worker_per_second == pytest.approx(learned, rel=0.05)
    assert after[-1].reason == "CatchingUp"


async def test_without_what_was_kept_it_begins_with_a_guess() -> None:
    pool = draining(None)
    before = (await pool.run(60))[-1]
    begin(pool, None)
    (after, *_) = await pool.run(1)
    assert before.per_worker_per_second is not None
    assert after.per_worker_per_second is None


async def test_a_restart_while_workers_are_kept_for_another_burst_gives_none_back_early() -> None:
    pool = draining(store := Store())
    pool.stored, pool.arrivals = 0.0, lambda now: 2_000 if 1_020 < now <= 1_021 else 0.0
    await pool.run(45)
    assert pool.waiting == 0
    kept = pool.loop.memory.replicas
    assert kept is not None
    assert kept > 5
    begin(pool, store)
    assert set(numbers(await pool.run(10))) == {kept}


async def test_while_it_cannot_be_read_everything_is_held_and_nothing_is_overwritten() -> None:
    pool = draining(store := Store())
    before = (await pool.run(60))[-1].workers_desired
    kept, store.unreadable = store.body, True
    begin(pool, store)
    held = await pool.run(RECALL_SECONDS - 2)
    assert set(numbers(held)) == {before}
    assert held[-1].reason == "LagUnknown"
    assert store.body == kept
    store.unreadable = False
    (after, *_) = await pool.run(1)
    assert (after.workers_desired, after.reason) == (before, "CatchingUp")
    assert after.per_worker_per_second is not None
    assert "memory" not in pool.loop.failures


async def test_it_is_given_up_after_a_while_but_not_while_the_lag_is_unknown_too() -> None:
    pool = draining(store := Store())
    await pool.run(60)
    store.away, pool.lag_known = True, False
    begin(pool, store)
    await pool.run(RECALL_SECONDS * 3)
    pool.lag_known = True
    with structlog.testing.capture_logs() as lines:
        statuses = await pool.run(RECALL_SECONDS + 2)
    assert statuses[0].reason == "LagUnknown"
    assert statuses[-1].reason == "CatchingUp"
    assert [line["event"] for line in lines if line["event"] == "memory_begins_anew"] == [
        "memory_begins_anew"
    ]
    assert "memory" in pool.loop.failures  # told, and stops nothing
    assert pool.loop.decision is not None
    assert pool.loop.decision.valid


async def outage(fallback: Fallback, *, restart: bool) -> tuple[list[int], list[int]]:
    """What is wanted in five minutes without NATS, and in the 25 seconds after them."""
    store = Store()
    pool = Pool(replace(SPEC, fallback=fallback), lambda _: 22.0)
    begin(pool, store)
    assert (await pool.run(60))[-1].workers_desired == 2
    store.away, pool.lag_known, pool.arrivals = True, False, lambda _: 0.0
    if restart:
        begin(pool, store)
    during = await pool.run(300)
    assert during[-1].reason == "LagUnknown"
    store.away, pool.lag_known, pool.arrivals = False, True, lambda _: 22.0
    after = await pool.run(25)
    assert after[0].reason != "LagUnknown"
    return numbers(during), numbers(after)


@pytest.mark.parametrize("fallback", [Fallback(30, "Floor", 15), Fallback(30, "Fixed", 1), Fallback()])
async def test_a_restart_in_an_outage_changes_nothing_of_what_is_wished_for_one(fallback: Fallback) -> None:
    """Nor how the pool comes back from it: the workers of the fallback are not dropped for the number that was kept."""
    during, after = await outage(fallback, restart=True)
    assert (set(during[:60]), set(during[61:])) == ({2}, {fallback.replicas or 2})
    assert (during, after) == await outage(fallback, restart=False)


async def test_a_lag_that_is_known_is_held_for_want_of_the_memory_alone_whatever_is_wished() -> None:
    pool = draining(store := Store())
    before = (await pool.run(60))[-1].workers_desired
    store.unreadable = True
    pool.spec = replace(SPEC, fallback=Fallback(1, "Floor", 15))
    begin(pool, store)
    assert set(numbers(await pool.run(RECALL_SECONDS - 2))) == {before}


async def test_a_memory_that_breaks_the_plan_is_left_behind() -> None:
    pool = draining(Store())
    await pool.run(60)
    broken = replace(pool.loop.memory, counters=cast("Any", None))

    class Broken(Store):
        async def load(self, now: float) -> Memory | None:
            return broken

    begin(pool, Broken())
    with structlog.testing.capture_logs() as lines:
        (status, *_) = await pool.run(1)
    assert "memory_begins_anew" in [line["event"] for line in lines]
    assert status.reason == "CatchingUp"


async def test_it_is_saved_every_few_seconds_and_at_once_when_the_decision_changes() -> None:
    store = Store()
    kept = KeptMemory("orders", store)
    await kept.load(0.0)

    async def save(now: float, replicas: int = 1, rate: float = 100.0) -> None:
        if kept.is_due(Decision(replicas, rate, True, "", "", 9, None, {}), now):
            await kept.save(Memory(), now)

    for tick in range(11):
        await save(tick / 2)
    assert store.saves == [0.0, SAVE_SECONDS, 2 * SAVE_SECONDS]
    await save(5.1, replicas=2)
    await save(5.2, replicas=2, rate=70.0)
    await save(5.3, replicas=2, rate=70.0)
    assert store.saves[3:] == [5.1, 5.2]
    await save(1.0, replicas=2, rate=70.0)  # the clock was set back: not silent until it is there again
    assert store.saves[5:] == [1.0]


async def test_a_store_that_fails_is_told_once_and_stops_nothing() -> None:
    pool = draining(store := Store())
    await pool.run(30)
    store.away = True
    with structlog.testing.capture_logs() as lines:
        assert (await pool.run(20))[-1].reason == "CatchingUp"
    assert [(line["event"], line["port"]) for line in lines if "port" in line] == [("port_failing", "memory")]
    saved, store.away = len(store.saves), False
    with structlog.testing.capture_logs() as lines:
        await pool.run(SAVE_SECONDS * 3)
    assert [(line["event"], line["port"]) for line in lines if "port" in line] == [("port_back", "memory")]
    assert saved + 2 <= len(store.saves) <= saved + 3
