"""Workers that say nothing, told from their consumer's numbers. A model of a server and of workers stands in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peakclip.jetstream import JetStream
from peakclip_operator.foreign import ForeignConsumer, ForeignPace
from peakclip_operator.plan.foreign import Look, MostInHand, Worked
from peakclip_operator.ports import PaceReading
from peakclip_operator.resource_pace import NoBucketError, ResourcePace, WantedPace


def look(at: float, *, pending: int = 100, in_flight: int = 0, delivered: int = 0) -> Look:
    return Look(at, pending, in_flight, delivered, 0)


def test_what_was_finished_while_something_waited_counts_with_the_workers_that_had_something() -> None:
    worked = Worked()
    for at, delivered in ((0.0, 10), (1.0, 40), (2.0, 70)):
        worked = worked.add(look(at, in_flight=10, delivered=delivered), running=3)
    assert (worked.finished, worked.busy_seconds) == (60, 6.0)


def test_a_worker_with_nothing_in_hand_is_not_busy() -> None:
    worked = Worked().add(look(0.0, in_flight=2), 10).add(look(1.0, in_flight=2, delivered=8), 10)
    assert (worked.finished, worked.busy_seconds) == (8, 2.0)


@pytest.mark.parametrize(
    "second",
    [
        look(1.0, pending=0, delivered=50),
        look(10.0, delivered=50),
        look(1.0, delivered=0, in_flight=5),
    ],
    ids=["nothing waits", "a gap", "another consumer of this name"],
)
def test_what_says_nothing_is_left_out(second: Look) -> None:
    worked = Worked().add(look(0.0, delivered=10), 3).add(second, 3)
    assert (worked.finished, worked.busy_seconds) == (0, 0.0)


def test_the_same_look_twice_adds_nothing() -> None:
    worked = Worked().add(look(0.0), 3).add(look(1.0, in_flight=3, delivered=10), 3)
    assert worked.add(look(1.0, in_flight=3, delivered=10), 3) == worked


BEFORE = look(10.0, in_flight=4, delivered=14)  # 10 were finished


@pytest.mark.parametrize(
    ("after", "finished", "busy"),
    [
        (look(12.0, in_flight=2, delivered=32), 20, 4.0),  # two workers, 3 in hand on the average
        (look(15.0, in_flight=4, delivered=14), 0, 10.0),  # five seconds are no gap, and nothing was done
        (look(15.1, in_flight=4, delivered=14), 0, 0.0),
        (look(11.0, in_flight=4, delivered=13), 0, 0.0),  # fewer than before: another consumer
        (look(11.0, in_flight=2, delivered=13), 1, 2.0),
        (look(9.0, in_flight=4, delivered=20), 0, 0.0),  # a clock that was set back
    ],
)
def test_two_looks_are_counted_to_the_edge(after: Look, finished: int, busy: float) -> None:
    worked = Worked(100, 7.0).add(BEFORE, 2).add(after, 2)
    assert (worked.finished, worked.busy_seconds) == (100 + finished, 7.0 + busy)
    assert worked.last == (after if after.at > BEFORE.at else BEFORE)


@pytest.mark.parametrize(
    ("in_flight", "delivered", "at", "rate", "now", "bound"),
    [
        (10, 60, 11.9, 100.0, 10, None),  # not two seconds yet
        (10, 60, 12.0, 100.0, 10, 40),  # 50 in 2 s with 10 in hand: 0.4 s each, times 100/s
        (10, 29, 12.0, 100.0, 10, None),  # 19 are too few
        (10, 30, 12.0, 100.0, 10, 100),
        (10, 29, 30.0, 100.0, 10, None),  # until 20 s have passed; this is a gap
        (10, 10, 12.0, 100.0, 10, None),
        (10, 60, 12.0, 0.0, 10, 10),
        (0, 60, 12.0, 100.0, 10, 10),
        (1, 10_010, 12.0, 1.0, 3, 1),  # never below one
        (10, 60, 12.0, 1_000.0, 10, 300),  # nor above what R does in `longest`: 0.3 s
        (10, 60, 12.0, 100.0, 37, 37),  # 8 % off: noise
        (10, 60, 12.0, 100.0, 36, 40),
    ],
)
def test_the_bound_by_its_numbers(
    in_flight: int, delivered: int, at: float, rate: float, now: int, bound: int | None
) -> None:
    """`bound` None: the measurement goes on, or begins anew after a gap."""
    first = look(10.0, in_flight=in_flight, delivered=10 + in_flight)
    most = MostInHand().next(first, rate, now, 0.3)[1]
    assert most == MostInHand(first, 0.0, first)
    last = look(at, in_flight=in_flight, delivered=delivered + in_flight)
    found, after = most.next(last, rate, now, 0.3 if rate > 500 else 30.0)
    if bound is None:
        goes_on = MostInHand(first, in_flight * (at - 10.0), last)
        assert (found, after) == (now, goes_on if at - 10.0 <= 5 else MostInHand(last, 0.0, last))
    else:
        assert (found, after) == (bound, MostInHand(last, 0.0, last))


def test_few_are_measured_for_longer_and_a_gap_begins_anew() -> None:
    most, bound = MostInHand(), 10
    for at in range(0, 20, 4):
        bound, most = most.next(look(at, in_flight=10, delivered=10 + at), 1.0, bound, 30.0)
        assert bound == 10
    looked_again = most.next(look(16.0, in_flight=10, delivered=26), 1.0, bound, 30.0)
    assert looked_again == (10, most)
    for gone in (21.1, 15.0):
        late = look(gone, in_flight=10, delivered=36)
        assert most.next(late, 1.0, bound, 30.0) == (10, MostInHand(late, 0.0, late))
    assert (
        most.next(look(20.0, in_flight=10, delivered=26), 2.0, bound, 30.0)[0] == 25
    )  # 16 in 20 s, 12.5 s each
    assert most.next(look(21.0, in_flight=10, delivered=11), 0.1, bound, 300.0)[0] == 21  # 1 in 21 s
    nothing = look(20.0, in_flight=10, delivered=10)
    assert most.next(nothing, 1.0, bound, 30.0) == (10, MostInHand(nothing, 0.0, nothing))


@dataclass
class Model:
    """Workers that take `take` messages each, and need `seconds` for every one of them, one after the other."""

    workers: int
    seconds: float
    take: int
    bound: int
    at: float = 0.0
    finished: float = 0.0

    def drain(self) -> float:
        in_hand = min(self.bound, self.workers * self.take)
        return min(self.workers, in_hand) / self.seconds

    def step(self, seconds: float) -> Look:
        self.at += seconds
        self.finished += self.drain() * seconds
        in_hand = min(self.bound, self.workers * self.take)
        return Look(self.at, 10_000, in_hand, int(self.finished) + in_hand, 0)


def run(model: Model, rate: float, seconds: float = 200.0) -> None:
    most = MostInHand()
    while model.at < seconds:
        model.bound, most = most.next(model.step(0.5), rate, model.bound, 30.0)


@given(
    workers=st.integers(1, 40),
    seconds=st.floats(0.005, 2.0),
    take=st.sampled_from([1, 1, 10, 100]),
    rate=st.floats(1.0, 500.0),
)
def test_the_bound_keeps_the_drain_near_the_limit(
    workers: int, seconds: float, take: int, rate: float
) -> None:
    model = Model(workers, seconds, take, bound=1000)
    run(model, rate)
    one = 1 / seconds  # what a single message in hand does; there is no less than one
    assert model.bound >= 1
    assert model.drain() <= max(rate * 1.17, one)
    assert model.drain() >= min(workers / seconds, rate * 0.8 - one)


def test_the_bound_follows_a_new_limit() -> None:
    model = Model(20, 0.1, 1, bound=1000)
    run(model, 100.0)
    assert model.bound == 10
    run(model, 50.0, 400.0)
    assert model.bound == 5
    run(model, 150.0, 600.0)
    assert model.bound == 15


def test_a_bound_that_is_off_by_little_stays() -> None:
    most = MostInHand()
    bound = 100
    for at in range(12):
        bound, most = most.next(
            look(at * 0.5, in_flight=100, delivered=100 + int(at * 0.5 * 104)), 100.0, bound, 30.0
        )
    assert bound == 100


def test_workers_that_finish_nothing_change_nothing() -> None:
    most, bound = MostInHand(), 7
    for at in range(12):
        bound, most = most.next(look(at * 0.5, in_flight=7, delivered=7), 100.0, bound, 30.0)
    assert bound == 7


class Told(ForeignConsumer):
    """Remembers what the server would be told."""

    def __init__(self) -> None:
        super().__init__(
            cast(JetStream, None), "S", "c", config={"ack_policy": "explicit", "max_ack_pending": 10}
        )
        self.bounds: list[int] = []

    async def bound(self, messages: int) -> None:
        self.bounds.append(messages)

    async def pause(self, paused: bool) -> None:
        self.paused = paused


class NoBucket(ResourcePace):
    async def read(self) -> PaceReading:
        raise NoBucketError


async def test_a_pause_is_not_taken_for_slow_work() -> None:
    consumer, wanted = Told(), WantedPace(limit_per_second=10.0, burst=5, paused=False, enforced=True)
    pace = ForeignPace(consumer, NoBucket(cast(JetStream, None), "c", lambda: wanted), lambda: wanted)
    looks = [
        (0.0, 10, 10, False),
        (1.0, 10, 20, False),
        (2.0, 10, 20, True),
        (4.0, 0, 20, True),
        (5.0, 0, 20, False),
    ]
    for at, in_flight, delivered, paused in looks:
        consumer.look = look(at, in_flight=in_flight, delivered=delivered)
        wanted = replace(wanted, paused=paused)
        await pace.read()
    assert consumer.bounds == []
