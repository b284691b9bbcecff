"""The heart of the limiter on a virtual clock: workers that are slow, late, starved or wrong about the time."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peakclip.limiter import grid
from peakclip.limiter.cursor import LOOK_AHEAD_SECONDS, Ask, Cursor, Ticket, Verdict, verdict
from peakclip.limiter.pace import STALE_SECONDS, Change, Pace, Segment, changed, segments
from peakclip.limiter.sliding import SlidingSecond

BEGIN = 1_700_000_000.0


@dataclass
class Habits:
    """How a simulated worker behaves; seconds, each drawn from 0 to twice the number."""

    work: float = 0.02
    network: float = 0.0005
    wake_up: float = 0.001
    stall_chance: float = 0.0
    stall: float = 0.3


@dataclass
class World:
    """Many workers, one set of counters, the true time. Every wait of a worker is an event."""

    seed: int
    schedule: list[tuple[float, Pace]]  # when a version of the pace was stored
    counters: Counter[tuple[int, int]] = field(default_factory=Counter)
    starts: list[tuple[float, int]] = field(default_factory=list)
    used: Counter[tuple[int, int]] = field(default_factory=Counter)
    operations: int = 0

    def run(
        self,
        workers: int,
        seconds: float,
        habits: Habits,
        *,
        idle_until: float = 0.0,
        killed_at: Mapping[int, float] | None = None,
    ) -> None:
        self.random = random.Random(self.seed)
        events = []
        for number in range(workers):
            begin = BEGIN + idle_until + self.random.random() * 0.001
            events.append((begin, number, self._worker(habits, begin)))
        heapq.heapify(events)
        while events and events[0][0] < BEGIN + seconds:
            now, number, worker = heapq.heappop(events)
            if now < BEGIN + (killed_at or {}).get(number, inf):
                heapq.heappush(events, (worker.send(now) or now, number, worker))

    def _draw(self, seconds: float) -> float:
        return self.random.uniform(0, 2 * seconds)

    def _pace(self, look: float) -> tuple[Segment, ...]:
        return segments([pace for stored, pace in self.schedule if stored <= look][-1])

    def _worker(self, habits: Habits, begin: float):  # type: ignore[no-untyped-def]
        worker = self._endless(habits, begin)
        next(worker)
        return worker

    def _endless(self, habits: Habits, now: float):  # type: ignore[no-untyped-def]
        """A generator: yields the true time at which it wants to go on and gets the true time at which it does."""
        error = self.random.uniform(-1, 1) * grid.CLOCK_ERROR_SECONDS
        look = now - self.random.uniform(0, STALE_SECONDS)
        cursor = Cursor()
        now = yield now
        while True:
            if now - look > STALE_SECONDS - 0.01:
                look = now - self._draw(0.2)
            schedule = self._pace(look)
            ask = cursor.next(
                schedule, now + error, 256, not_before=0.0, clock_error=grid.CLOCK_ERROR_SECONDS
            )
            if isinstance(ask, float):
                now = yield now + max(0.0005, min(ask - now - error, 0.5))
                continue
            now = yield now + self._draw(habits.network)
            self.operations += 1
            key = (ask.segment.rate, ask.window)
            self.counters[key] += ask.add
            value = self.counters[key]
            now = yield now + self._draw(habits.network)
            ticket = cursor.answered(ask, value, now + error)
            if ticket is None:
                continue
            now = yield from self._start(ticket, look, now, error, habits)
            if self.random.random() < habits.stall_chance:
                now = yield now + self._draw(habits.stall)
            now = yield now + self._draw(habits.work)

    def _start(self, ticket: Ticket, look: float, now: float, error: float, habits: Habits):  # type: ignore[no-untyped-def]
        while True:
            if now - look > STALE_SECONDS - 0.01:
                look = now - self._draw(0.2)
            judged = verdict(ticket, self._pace(look), now + error, grid.CLOCK_ERROR_SECONDS)
            if judged is Verdict.START:
                self.starts.append((now, len(ticket.slots)))
                self.used.update((ticket.rate, slot) for slot in ticket.slots)
            if judged is not Verdict.WAIT:
                return now
            wait = min(0.5, max(0.0, ticket.due - now - error))
            now = yield now + wait + self._draw(habits.wake_up)
            if self.random.random() < habits.stall_chance:
                now = yield now + self._draw(habits.stall)

    @property
    def most(self) -> int:
        second = SlidingSecond()
        for at, count in sorted(self.starts):
            second.add(at, count)
        return second.most

    def between(self, begin: float, end: float) -> int:
        return sum(count for at, count in self.starts if BEGIN + begin <= at < BEGIN + end)


def constant(rate: float) -> list[tuple[float, Pace]]:
    return [(0.0, changed(None, Change(limit_per_second=rate), BEGIN - 10))]


def steps_of(*rates_at: tuple[float, float]) -> list[tuple[float, Pace]]:
    """Versions of a pace: (seconds after the beginning, rate)."""
    versions: list[tuple[float, Pace]] = []
    for after, rate in rates_at:
        old = versions[-1][1] if versions else None
        versions.append((BEGIN + after, changed(old, Change(limit_per_second=rate), BEGIN + after)))
    return versions


@pytest.mark.parametrize("rate", [0.5, 7.0, 33.3, 100.0, 1_000.0, 10_000.0])
@pytest.mark.parametrize("workers", [1, 5, 20])
def test_quick_workers_start_exactly_r(rate: float, workers: int) -> None:
    world = World(1, constant(rate))
    world.run(workers, 11.0, Habits(work=0.0002))
    assert world.between(1, 11) == pytest.approx(rate * 10, rel=0.005, abs=1.01 + rate / 100)
    assert max(world.used.values()) == 1


@given(
    seed=st.integers(0, 1 << 32),
    rate=st.sampled_from([2.5, 40.0, 100.0, 700.0, 3_000.0]),
    workers=st.integers(1, 12),
    work=st.sampled_from([0.0, 0.01, 0.2]),
    wake_up=st.sampled_from([0.0005, 0.02, 0.04]),
    stall_chance=st.sampled_from([0.0, 0.05, 0.5]),
)
@settings(max_examples=60, deadline=None)
def test_no_sliding_second_ever_holds_more_than_r_and_burst(
    seed: int, rate: float, workers: int, work: float, wake_up: float, stall_chance: float
) -> None:
    world = World(seed, constant(rate))
    world.run(workers, 3.0, Habits(work=work, wake_up=wake_up, stall_chance=stall_chance))
    assert world.most <= grid.bound(rate, grid.default_burst(rate))
    assert max(world.used.values(), default=1) == 1


@given(
    seed=st.integers(0, 1 << 32),
    rates=st.lists(st.sampled_from([5.0, 50.0, 100.0, 400.0, 1_500.0]), min_size=2, max_size=4),
    gap=st.sampled_from([0.1, 0.9, 1.4]),
    stall_chance=st.sampled_from([0.0, 0.2]),
)
@settings(max_examples=60, deadline=None)
def test_a_change_of_rate_never_exceeds_the_larger_rate(
    seed: int, rates: list[float], gap: float, stall_chance: float
) -> None:
    world = World(seed, steps_of((-10.0, rates[0]), *((1 + n * gap, r) for n, r in enumerate(rates[1:]))))
    world.run(6, 5.0, Habits(work=0.005, wake_up=0.01, stall_chance=stall_chance))
    top = max(rates)
    assert world.most <= grid.bound(top, grid.default_burst(top))
    assert max(world.used.values()) == 1


def test_a_change_is_in_force_at_its_fence_and_loses_little() -> None:
    world = World(3, steps_of((-10.0, 100.0), (1.0, 400.0), (4.0, 50.0)))
    world.run(5, 9.0, Habits(work=0.001))
    assert world.between(0.5, 2.25) == pytest.approx(175, abs=3)
    assert world.between(2.5, 5.25) == pytest.approx(1100, abs=12)
    assert world.between(5.5, 9.0) == pytest.approx(175, abs=3)


def test_nothing_is_banked_while_idle_and_the_first_second_loses_little() -> None:
    world = World(4, constant(100.0))
    world.run(5, 20.137, Habits(work=0.001), idle_until=17.137)
    assert world.most <= 105
    assert world.between(17.137, 18.137) >= 90
    first = min(at for at, _ in world.starts)
    assert first - BEGIN - 17.137 < 0.1  # the workers meet at a window that is half past


def test_workers_that_meet_at_a_half_past_window_do_not_all_burn_it() -> None:
    counts = []
    for begin in (17.02, 17.06, 17.1, 17.137, 17.2):
        world = World(1, constant(100.0))
        world.run(5, begin + 1.3, Habits(work=0.001), idle_until=begin)
        counts.append(world.between(begin, begin + 1.0))
    assert sum(counts) / len(counts) >= 95.5  # 93 if each of them moves the counter


def test_killed_workers_take_nothing_with_them_but_their_own_tickets() -> None:
    world = World(7, constant(100.0))
    world.run(5, 8.0, Habits(work=0.001), killed_at={0: 3.0, 1: 3.001})
    assert world.most <= 105
    assert world.between(3.0, 4.0) >= 97
    assert world.between(4.0, 8.0) == pytest.approx(400, abs=2)


def test_a_pause_stops_and_a_resume_starts() -> None:
    versions = steps_of((-10.0, 100.0))
    for after, paused in ((1.0, True), (4.0, False)):
        pace = changed(versions[-1][1], Change(paused=paused), BEGIN + after)
        versions.append((BEGIN + after, pace))
    world = World(5, versions)
    world.run(5, 8.0, Habits(work=0.001))
    assert world.between(2.31, 5.29) == 0
    assert world.between(6.0, 7.0) >= 99


def test_one_request_per_start_or_little_more() -> None:
    world = World(6, constant(100.0))
    world.run(5, 10.0, Habits(work=0.001))
    assert world.operations < 1.5 * sum(count for _, count in world.starts)


def test_who_burns_in_vain_goes_on_to_the_next_window() -> None:
    """Its answers take longer than a start may be late, so numbers of this window are past whenever it has them."""
    schedule = segments(constant(1_000.0)[0][1])
    cursor = Cursor()

    def ask_at(now: float) -> Ask:
        ask = cursor.next(schedule, now, 10, not_before=0.0, clock_error=0.018)
        assert isinstance(ask, Ask)
        return ask

    first = ask_at(BEGIN + 0.1)
    assert cursor.answered(first, first.add, BEGIN + 0.136) is None
    second = ask_at(BEGIN + 0.136)
    assert (second.window, second.burn > 0) == (first.window, True)
    assert cursor.answered(second, first.add + second.add, BEGIN + 0.172) is None
    third = ask_at(BEGIN + 0.172)
    assert third.window == first.window + 1
    assert cursor.answered(third, third.add, BEGIN + 0.208) is not None


def test_no_ticket_is_taken_far_ahead() -> None:
    schedule = segments(constant(0.01)[0][1])
    wait = Cursor().next(schedule, BEGIN + 1.0, 1, not_before=0.0, clock_error=0.0)
    assert isinstance(wait, float)
    assert wait > BEGIN + 1.0
    ask = Cursor().next(schedule, wait + 0.001, 1, not_before=0.0, clock_error=0.0)
    assert isinstance(ask, Ask)
    assert grid.window_start(ask.window) - wait <= LOOK_AHEAD_SECONDS + 0.001


def test_windows_before_not_before_are_left_alone() -> None:
    schedule = segments(constant(100.0)[0][1])
    ask = Cursor().next(schedule, BEGIN, 1, not_before=BEGIN + 1.5, clock_error=0.0)
    assert isinstance(ask, Ask)
    assert grid.window_start(ask.window) == BEGIN + 1.5


def test_a_clock_too_uncertain_for_the_burst_starts_nothing() -> None:
    schedule = segments(constant(100.0)[0][1])
    assert Cursor().next(schedule, BEGIN, 1, not_before=0.0, clock_error=0.03) == inf


TICKET = Ticket(100_000, range(170_000_000_000, 170_000_000_001))


@pytest.mark.parametrize(
    ("late", "schedule", "expected"),
    [
        (-0.001, [(0.0, 100)], Verdict.WAIT),
        (0.0, [(0.0, 100)], Verdict.START),
        (0.038, [(0.0, 100)], Verdict.START),
        (0.040, [(0.0, 100)], Verdict.LATE),
        (0.0, [(0.0, 100), (BEGIN + 0.01, 50)], Verdict.START),
        (0.02, [(0.0, 100), (BEGIN + 0.01, 50)], Verdict.VOID),  # late, and its rate is over
        (0.0, [(0.0, 100), (BEGIN, 50)], Verdict.VOID),
        (-2.0, [(0.0, 100), (BEGIN - 1, 50)], Verdict.VOID),  # known before it is due
        (0.0, [(0.0, 0)], Verdict.VOID),
        (0.0, [(BEGIN + 1, 100)], Verdict.VOID),
    ],
)
def test_verdict(late: float, schedule: list[tuple[float, int]], expected: Verdict) -> None:
    ends = [begin for begin, _ in schedule[1:]] + [inf]
    stretches = tuple(
        Segment(begin, end, rate * 1000, 5) for (begin, rate), end in zip(schedule, ends, strict=True)
    )
    assert verdict(TICKET, stretches, BEGIN + late, 0.0) is expected
