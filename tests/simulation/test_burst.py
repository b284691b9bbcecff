"""The control loop, closed over a simulated pool. No second of these minutes is slept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from simulation.model import Pool

from peakclip.messages import PoolStatus
from peakclip_operator.plan import PoolSpec

SPEC = PoolSpec(stabilization_seconds=8, prior_batch_seconds=1 / 22)
START = 1020.0  # the bursts come 20 s into the simulation


def burst(size: int, seconds: float = 1.0, at: float = START) -> Callable[[float], float]:
    return lambda now: size / seconds if at < now <= at + seconds + 1e-6 else 0.0


def wanted(statuses: list[PoolStatus]) -> list[int]:
    return [status.workers_desired for status in statuses]


def changes(numbers: list[int]) -> int:
    return sum(before != after for before, after in pairwise(numbers))


async def test_ten_thousand_orders_at_one_hundred_a_second() -> None:
    pool = Pool(SPEC, burst(10_000), noise=0.2)
    assert set(wanted(await pool.run(20))) == {1}
    climb = await pool.run(1)  # two ticks
    assert 5 <= climb[-1].workers_desired <= 7
    drain = await pool.run(98)
    assert all(5 <= number <= 7 for number in wanted(drain))
    assert changes(wanted(drain)) <= 2
    assert pool.finished == pytest.approx(9_900, rel=0.01)
    assert {status.reason for status in drain} == {"CatchingUp"}
    await pool.run(4)
    assert pool.waiting == 0
    end = await pool.run(10)
    assert end[-1].workers_desired == 1
    assert changes(wanted(await pool.run(120))) == 0


async def test_the_eta_is_right_while_the_burst_is_drained() -> None:
    pool = Pool(SPEC, burst(10_000))
    await pool.run(30)
    (status,) = await pool.run(0.5)
    assert status.eta_seconds == pytest.approx(pool.waiting / 100, rel=0.05)


@pytest.mark.parametrize("truth", [5.0, 11.0, 22.0, 45.0, 200.0])
async def test_a_wrong_first_guess_is_found_out_within_seconds(truth: float) -> None:
    pool = Pool(SPEC, burst(10_000), per_worker=truth, noise=0.1)
    await pool.run(28)
    statuses = await pool.run(40)
    assert all(
        100 / truth * 0.99 <= status.workers_desired <= 100 / (truth * 0.7) * 1.1 + 1 for status in statuses
    )
    assert changes(wanted(statuses)) <= 1


async def test_halving_r_under_load_lowers_the_number_and_never_raises_it() -> None:
    pool = Pool(SPEC, burst(10_000), noise=0.2)
    before = (await pool.run(40))[-1].workers_desired
    pool.limit = 50.0
    after = wanted(await pool.run(60))
    assert after[0] < before
    assert all(later <= earlier for earlier, later in pairwise([before, *after]))
    assert 3 <= after[-1] <= 4


async def test_raising_r_in_the_middle_gets_the_workers_at_once() -> None:
    pool = Pool(SPEC, burst(10_000), noise=0.1)
    await pool.run(40)
    pool.limit = 200.0
    assert 10 <= (await pool.run(1))[-1].workers_desired <= 14
    before = pool.finished
    await pool.run(10)
    assert pool.finished - before == pytest.approx(2_000, rel=0.02)


async def test_slow_telemetry_neither_delays_nor_confuses() -> None:
    pool = Pool(SPEC, burst(10_000), telemetry_seconds=4.0, noise=0.2)
    await pool.run(20)
    assert 5 <= (await pool.run(1))[-1].workers_desired <= 7
    assert all(5 <= number <= 7 for number in wanted(await pool.run(90)))


async def test_no_telemetry_at_all_leaves_the_first_guess_standing() -> None:
    pool = Pool(SPEC, burst(10_000), telemetry_seconds=1e9)
    await pool.run(21)
    statuses = await pool.run(60)
    assert set(wanted(statuses)) == {6}
    assert statuses[-1].per_worker_per_second is None


async def test_lag_unknown_for_half_a_minute_holds_and_then_goes_on() -> None:
    pool = Pool(SPEC, burst(10_000))
    before = (await pool.run(40))[-1]
    pool.lag_known = False
    blind = await pool.run(30)
    assert set(wanted(blind)) == {before.workers_desired}
    assert {(status.reason, status.lag_ready, status.eta_seconds) for status in blind} == {
        ("LagUnknown", None, None)
    }
    pool.lag_known = True
    seeing = await pool.run(20)
    assert set(wanted(seeing)) == {before.workers_desired}
    assert seeing[-1].reason == "CatchingUp"


async def test_a_queue_that_emptied_while_nobody_saw_it_still_keeps_its_workers_for_the_stabilization() -> (
    None
):
    pool = Pool(SPEC, burst(1_500))
    before = (await pool.run(25))[-1].workers_desired
    pool.lag_known = False
    await pool.run(30)
    assert pool.waiting == 0
    pool.lag_known = True
    assert (await pool.run(5))[-1].workers_desired == before
    assert (await pool.run(10))[-1].workers_desired == 1


async def test_dead_workers_are_replaced_in_the_next_tick() -> None:
    pool = Pool(SPEC, burst(10_000))
    await pool.run(30)
    steady = len(pool.ready_at)
    del pool.ready_at[2:]
    await pool.run(0.5)
    assert len(pool.ready_at) == steady


async def test_waves_of_arrivals_do_not_flap() -> None:
    """40/s on average, in seconds of 80 and seconds of none: one number of workers for all of them."""
    pool = Pool(PoolSpec(prior_batch_seconds=1 / 22), lambda now: 80.0 if int(now) % 2 else 0.0, noise=0.2)
    await pool.run(90)
    statuses = await pool.run(120)
    assert changes(wanted(statuses)) <= 2
    assert max(status.lag_ready or 0 for status in statuses) < 100


async def test_after_a_minute_of_arrivals_above_r_the_whole_backlog_is_drained_at_r() -> None:
    pool = Pool(SPEC, burst(9_000, seconds=60.0))
    await pool.run(85)
    before = pool.finished
    await pool.run(20)
    assert pool.finished - before == pytest.approx(2_000, rel=0.01)


async def test_workers_starved_in_the_seconds_of_the_burst_are_not_taken_for_slow() -> None:
    """Accepting takes the processor from the workers for a moment: more of them would only take more."""
    pool = Pool(SPEC, burst(10_000), per_worker=8.0, noise=0.2)
    numbers = wanted(await pool.run(23))
    pool.per_worker = 22.0
    numbers += wanted(await pool.run(60))
    assert max(numbers) <= 7


async def test_a_stall_of_some_seconds_calls_for_nobody() -> None:
    pool = Pool(SPEC, burst(10_000), noise=0.1)
    await pool.run(40)
    pool.per_worker = 1.0
    numbers = wanted(await pool.run(2))
    pool.per_worker = 22.0
    numbers += wanted(await pool.run(30))
    assert changes(numbers) == 0


async def test_workers_that_have_become_slow_for_good_get_company() -> None:
    pool = Pool(SPEC, burst(10_000), noise=0.1)
    await pool.run(40)
    pool.per_worker = 11.0
    await pool.run(10)
    assert 10 <= (await pool.run(1))[-1].workers_desired <= 14
    before = pool.finished
    await pool.run(10)
    assert pool.finished - before == pytest.approx(1_000, rel=0.02)


async def test_a_pool_that_is_short_of_r_for_a_reason_nobody_measures_gets_one_more_at_a_time() -> None:
    pool = Pool(SPEC, burst(10_000), overhead=0.3)
    first = wanted(await pool.run(32))
    assert first[-1] == 6  # 6 * 22 * 0.7 = 92/s
    assert wanted(await pool.run(10))[-1] == 7
    before = pool.finished
    assert set(wanted(await pool.run(30))) == {7}  # the ceiling, and enough
    assert pool.finished - before == pytest.approx(3_000, rel=0.01)


async def test_a_backlog_that_grows_below_r_gets_workers_long_before_it_calls_for_r() -> None:
    """R of such a pool is what the database bears, far above what usually arrives."""
    spec = replace(SPEC, limit_per_second=500.0, max_replicas=4, prior_batch_seconds=1 / 180)
    pool = Pool(spec, lambda _: 100.0, per_worker=180.0, limit=500.0, overhead=0.8)  # one worker does 36/s
    assert set(wanted(await pool.run(12))) == {1}
    climb = await pool.run(60)
    assert (max(wanted(climb)), "shortfall" in {status.binding_constraint for status in climb}) == (3, True)
    await pool.run(600)  # with the backlog gone its rate is believed again, until the next backlog
    assert max(status.lag_ready or 0 for status in pool.history) < 3_000  # all of R is called for at 43,000


async def test_a_database_that_does_not_give_r_gets_no_more_workers_than_the_ceiling() -> None:
    pool = Pool(SPEC, burst(10_000))
    await pool.run(30)
    pool.overhead = 0.8
    assert max(wanted(await pool.run(60))) == 7
