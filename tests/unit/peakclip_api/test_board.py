"""What the board remembers: bounded, honest about age, and never slowed down by a reader."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peakclip.jetstream import JetStream
from peakclip.messages import PoolStatus
from peakclip_api import history
from peakclip_api.board import Board, Change
from peakclip_api.history import Histories, NatsMetrics, nats_metrics, total_metrics


def status(pool: str = "orders", **changes: Any) -> PoolStatus:
    calm = PoolStatus(
        pool=pool,
        at=0.0,
        limit_per_second=100.0,
        effective_per_second=100.0,
        paused=False,
        lag_ready=900,
        lag_in_flight=100,
        oldest_seconds=10.0,
        arrival_per_second=0.0,
        drain_per_second=100.0,
        per_worker_per_second=20.0,
        workers_current=5,
        workers_desired=5,
        workers_ceiling=7,
        eta_seconds=10.0,
        reason="because",
        binding_constraint="rate",
        processed_total=300,
        failed_total=2,
        average_processing_seconds=0.1,
        starts_max_sliding_second=101,
    )
    return msgspec.structs.replace(calm, **changes)


class ManualClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def board() -> tuple[Board, ManualClock]:
    clock = ManualClock()
    return Board(cast("JetStream", None), clock=clock), clock


def test_a_status_is_known_until_it_is_five_seconds_old() -> None:
    this, clock = board()
    this.add(status())
    clock.now += 5.0
    assert this.snapshot().pools["orders"].known
    clock.now += 0.1
    view = this.snapshot().pools["orders"]
    assert not view.known
    assert view.status is None
    assert view.last_known.lag_ready == 900
    assert view.age_seconds == pytest.approx(5.1)


def test_age_is_counted_from_arrival_and_not_from_what_the_sender_says() -> None:
    this, clock = board()
    this.add(status(at=clock.now + 86_400))
    clock.now += 6
    assert not this.snapshot().pools["orders"].known


def test_unknown_numbers_are_null_and_never_zero() -> None:
    this, clock = board()
    nothing = NatsMetrics(None, None, None, None)
    assert this.metrics() == (nothing, {})
    this.add(status(lag_in_flight=None))
    assert this.metrics()[1]["orders"] == NatsMetrics(None, 300, 2, 0.1)
    clock.now += 6
    assert this.metrics() == (nothing, {"orders": nothing})


def test_a_silent_pool_is_forgotten_after_the_history() -> None:
    this, clock = board()
    this.add(status("gone"))
    clock.now += history.HISTORY_SECONDS
    assert set(this.snapshot().pools) == {"gone"}
    clock.now += 1
    this.add(status("here"))
    assert set(this.snapshot().pools) == {"here"}
    assert set(this.history().rows) == {"here"}


@given(gaps=st.lists(st.floats(0, 3), min_size=1, max_size=300), rate=st.sampled_from([1, 40]))
def test_history_is_bounded_and_in_order_whatever_comes(gaps: list[float], rate: int) -> None:
    remembered, now = Histories(), 0.0
    for gap in gaps:
        for step in range(rate):
            now += gap / rate
            remembered.add(status(processed_total=step), now)
    rows = remembered.rows(now)["orders"]
    times = [row.at for row in rows]
    assert len(rows) <= history.HISTORY_SECONDS / history.SLOT_SECONDS
    assert times == sorted(times)
    assert times[-1] == pytest.approx(now, abs=0.001)
    assert now - times[0] <= history.HISTORY_SECONDS + history.SLOT_SECONDS


def test_the_number_of_pools_is_bounded() -> None:
    remembered = Histories()
    assert all(remembered.add(status(f"p{number}"), 0.0) for number in range(history.MAX_POOLS))
    assert not remembered.add(status("one-too-many"), 0.0)
    assert remembered.add(status("p0"), 0.0)


def test_metrics_over_all_pools() -> None:
    def known(pool: str, **changes: Any) -> NatsMetrics:
        remembered = Histories()
        remembered.add(status(pool, **changes), 0.0)
        return nats_metrics(remembered.views(0.0)[pool])

    first = known("a", processed_total=300, average_processing_seconds=0.1)
    second = known("b", processed_total=100, average_processing_seconds=0.5)
    fresh = known("c", processed_total=0, average_processing_seconds=None, lag_ready=0, lag_in_flight=0)
    assert total_metrics({"a": first, "b": second, "c": fresh}) == NatsMetrics(
        2000, 400, 6, pytest.approx(0.2)
    )
    assert total_metrics({"c": fresh}) == NatsMetrics(0, 0, 2, None)
    blind = NatsMetrics(None, 5, 0, None)
    assert total_metrics({"a": first, "d": blind}) == NatsMetrics(None, 305, 2, None)


async def drained(changes: Any) -> list[Change]:
    """What waits for a reader now."""
    found: list[Change] = []
    while True:
        try:
            async with asyncio.timeout(0):
                found.append(await anext(changes))
        except (TimeoutError, StopAsyncIteration):
            return found


async def test_a_reader_gets_every_change_in_order() -> None:
    this, _ = board()
    seen: list[int] = []

    async def read() -> None:
        with this.subscribe() as changes:
            async for change in changes:
                seen.append(change.number)  # noqa: PERF401 - while it runs

    reader = asyncio.create_task(read())
    for _ in range(5):
        await asyncio.sleep(0)
        this.add(status())
    await asyncio.sleep(0)
    this.end_streams()
    await reader
    assert seen == [1, 2, 3, 4, 5]


async def test_a_slow_reader_finds_only_the_newest_of_each_pool_with_growing_numbers() -> None:
    this, _ = board()
    with this.subscribe() as changes:
        for total in range(1000):
            this.add(status("a", processed_total=total))
            if total < 10:
                this.add(status("b", processed_total=total))
        this.add(status("b", processed_total=77))
        this.add(status("a", processed_total=88))
        waiting = await drained(changes)
    assert [(c.status.pool, c.status.processed_total) for c in waiting] == [("b", 77), ("a", 88)]
    assert [c.number for c in waiting] == [1011, 1012]


async def test_a_reader_that_left_is_not_fed() -> None:
    this, _ = board()
    with this.subscribe() as changes:
        pass
    this.add(status())
    assert await drained(changes) == []


async def test_streams_end_with_the_application_and_stay_ended() -> None:
    this, _ = board()
    with this.subscribe() as early:
        this.end_streams()
        this.add(status())
        assert await drained(early) == []
        with pytest.raises(StopAsyncIteration):
            await anext(early)
    with this.subscribe() as late, pytest.raises(StopAsyncIteration):
        await anext(late)


async def test_what_cannot_be_read_is_ignored() -> None:
    class Message:
        def __init__(self, subject: str, data: bytes) -> None:
            self.subject, self.data = subject, data

    this, _ = board()
    for bad in (
        Message("peakclip.status.orders", b"not json"),
        Message("peakclip.status.orders", b'{"pool":"orders"}'),
        Message("peakclip.status.other", msgspec.json.encode(status())),
    ):
        await this._received(cast("Any", bad))
    assert this.snapshot().pools == {}
    await this._received(cast("Any", Message("peakclip.status.orders", msgspec.json.encode(status()))))
    assert this.snapshot().pools["orders"].known
