from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from fakes import on_virtual_clock
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support import make_order

from peakclip.errors import UnavailableError
from peakclip.jetstream import StoredMessage, StreamState
from peakclip.messages import Order, encode_frame
from peakclip_api.line import Follower, Line


def line(keep: int = 1_000) -> Line:
    return Line(keep)


def orders(count: int, **changes: Any) -> list[Order]:
    return [make_order(**changes) for _ in range(count)]


def places(this: Line, some: list[Order]) -> list[int]:
    return [this.position(entry) for order in some if (entry := this.find(order.order_id)) is not None]


# -- places ------------------------------------------------------------------------------------------------


def test_places_are_in_the_order_of_acceptance() -> None:
    this, some = line(), orders(5)
    this.add_frame(1, some[:2])
    this.add_frame(2, some[2:])
    assert places(this, some) == [1, 2, 3, 4, 5]


def test_places_move_with_the_queue_and_stop_at_one() -> None:
    this, some = line(), orders(10)
    this.add_frame(1, some[:6])
    this.add_frame(2, some[6:])
    this.measured(relayed_seq=1, queued=4)  # two of the first frame are through
    assert places(this, some) == [1, 1, 1, 2, 3, 4, 5, 6, 7, 8]
    this.measured(relayed_seq=2, queued=1)
    assert places(this, some)[-1] == 1


def test_what_is_not_relayed_yet_is_in_the_line_too() -> None:
    this, some = line(), orders(10)
    this.add_frame(1, some)
    this.measured(relayed_seq=0, queued=0)
    assert places(this, some) == list(range(1, 11))


def test_places_never_move_back() -> None:
    """An order between relay and queue may be counted twice for a moment."""
    this, some = line(), orders(10)
    this.add_frame(1, some)
    this.measured(relayed_seq=1, queued=3)
    before = places(this, some)
    this.measured(relayed_seq=1, queued=8)
    assert places(this, some) == before


def test_an_order_admitted_twice_keeps_its_first_place_and_counts_once() -> None:
    this, (one, two) = line(), orders(2)
    this.add_frame(1, [one])
    this.add_frame(2, [one, two])
    assert places(this, [one, two]) == [1, 3]
    assert this.bought(one.sale_id, one.customer_id) == 1
    this.measured(relayed_seq=2, queued=1)
    assert places(this, [two]) == [1]


# -- own frames and the log --------------------------------------------------------------------------------


def shown(seq: int, some: list[Order]) -> StoredMessage:
    return StoredMessage(seq, f"intake.f{seq}", encode_frame(some), {}, 0.0)


async def test_an_own_frame_is_taken_in_once_whoever_is_first() -> None:
    for own_first in (True, False):
        this, some = line(), orders(3)
        follower = Follower(cast("Any", None), this)
        if own_first:
            this.add_own_frame(1, some)
            await follower._on_frame(shown(1, some))
        else:
            await follower._on_frame(shown(1, some))
            this.add_own_frame(1, some)
        assert this.total == 3
        assert places(this, some) == [1, 2, 3]


@given(st.permutations(range(1, 7)), st.sets(st.integers(1, 6)), st.integers(0, 63))
async def test_own_and_others_frames_in_any_interleaving_count_once(
    acknowledged: list[int], own: set[int], ahead: int
) -> None:
    """The log shows 1 to 6 in order; our own acknowledgements come whenever they come."""
    frames = {seq: orders(seq) for seq in range(1, 7)}
    this = line()
    follower = Follower(cast("Any", None), this)
    early = [seq for seq in acknowledged if seq in own and ahead & 1 << (seq - 1)]
    late = [seq for seq in acknowledged if seq in own and seq not in early]
    for seq in early:
        this.add_own_frame(seq, frames[seq])
    for seq in range(1, 7):
        await follower._on_frame(shown(seq, frames[seq]))
    for seq in late:
        this.add_own_frame(seq, frames[seq])
    everything = [order for some in frames.values() for order in some]
    assert this.total == len(everything) == 21
    assert sorted(places(this, everything)) == list(range(1, 22))
    assert not this._early


async def test_a_frame_that_cannot_be_read_is_passed_over() -> None:
    this, some = line(), orders(2)
    follower = Follower(cast("Any", None), this)
    await follower._on_frame(StoredMessage(1, "intake.f1", b"\xff", {}, 0.0))
    assert follower.caught_up.is_set()
    await follower._on_frame(shown(2, some))
    assert places(this, some) == [1, 2]


# -- as new as the log ---------------------------------------------------------------------------------


class Log:
    """A JetStream that only knows how long INTAKE is, and tells it when the test lets it."""

    def __init__(self) -> None:
        self.last_seq = 0
        self.asked = 0
        self.may_answer = asyncio.Event()

    async def stream_state(self, _: str) -> StreamState:
        self.asked += 1
        last_seq = self.last_seq
        await self.may_answer.wait()
        return StreamState(last_seq, 0, 1, last_seq, 0.0, {})


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_up_to_date_is_what_was_stored_before_the_question() -> None:
    log = Log()
    follower = Follower(cast("Any", log), line())
    log.last_seq = 1
    first = asyncio.create_task(follower.up_to_date())
    await turns()
    log.last_seq = 2  # stored after the first question was asked: only the next one may count on it
    later = [asyncio.create_task(follower.up_to_date()) for _ in range(100)]
    await turns()
    log.may_answer.set()
    await turns()
    assert not first.done()
    await follower._on_frame(shown(1, orders(1)))
    await turns()
    assert first.done()
    assert not any(task.done() for task in later)
    await follower._on_frame(shown(2, orders(1)))
    await turns()
    assert all(task.done() for task in later)
    assert log.asked == 2, "one question for all who wait"


async def test_a_failed_look_fails_who_waited_for_it_and_nobody_else() -> None:
    class Away(Log):
        async def stream_state(self, _: str) -> StreamState:
            raise UnavailableError

    follower = Follower(cast("Any", Away()), line())
    for _ in range(2):
        with pytest.raises(UnavailableError):
            await follower.up_to_date()


@on_virtual_clock
async def test_a_log_that_falls_silent_is_not_waited_for_for_ever() -> None:
    log = Log()
    log.last_seq = 1
    log.may_answer.set()
    with pytest.raises(UnavailableError):
        await Follower(cast("Any", log), line()).up_to_date()


# -- what counts against the limit -------------------------------------------------------------------------


def test_units_count_until_they_are_released_and_once_only() -> None:
    this = line()
    one, two = make_order(customer_id="c1", quantity=2), make_order(customer_id="c1")
    this.add_frame(1, [one, two])
    assert this.bought("s1", "c1") == 3
    this.release(one.order_id)
    this.release(one.order_id)
    assert this.bought("s1", "c1") == 1
    this.release(two.order_id)
    assert this.bought("s1", "c1") == 0
    assert this.find(one.order_id) is not None  # a repeat still finds its order


def test_a_release_may_come_before_its_order() -> None:
    """At start both logs are read at once."""
    this, (one,) = line(), orders(1, customer_id="c1")
    this.release(one.order_id)
    this.add_frame(1, [one])
    assert this.bought("s1", "c1") == 0
    assert this.find(one.order_id) is not None


# -- forgetting --------------------------------------------------------------------------------------------


def test_the_oldest_are_forgotten_first_and_the_queued_never() -> None:
    this, some = line(keep=4), orders(10, customer_id="c1")
    this.add_frame(1, some)
    this.trim()
    assert places(this, some) == list(range(1, 11))
    this.measured(relayed_seq=1, queued=7)  # three are through
    this.trim()
    assert [this.find(order.order_id) is not None for order in some] == [False] * 3 + [True] * 7
    assert this.bought("s1", "c1") == 7
    this.measured(relayed_seq=1, queued=0)
    this.trim()
    assert [this.find(order.order_id) is not None for order in some] == [False] * 6 + [True] * 4


def test_a_released_order_is_forgotten_without_being_counted_twice() -> None:
    this, some = line(keep=1), orders(2, customer_id="c1")
    this.add_frame(1, some)
    this.release(some[0].order_id)
    this.measured(relayed_seq=1, queued=0)
    this.trim()
    assert this.bought("s1", "c1") == 1


class AnyHistory(RuleBasedStateMachine):
    """Frames come, are relayed and drained, orders are released, old ones forgotten, in any order.

    The model is the truth: what is in INTAKE, how many of it are relayed, how many of those are drained.
    """

    KEEP = 5

    def __init__(self) -> None:
        super().__init__()
        self.line = Line(self.KEEP)
        self.frames: list[list[Order]] = []
        self.relayed = 0  # frames
        self.drained = 0  # orders
        self.released: set[str] = set()

    @property
    def all(self) -> list[Order]:
        return [order for frame in self.frames for order in frame]

    @rule(quantities=st.lists(st.integers(1, 3), max_size=4), customer=st.integers(0, 2))
    def accept(self, quantities: list[int], customer: int) -> None:
        frame = [make_order(customer_id=f"c{customer}", quantity=quantity) for quantity in quantities]
        self.frames.append(frame)
        self.line.add_frame(len(self.frames), frame)

    @rule(count=st.integers(1, 3))
    def relay(self, count: int) -> None:
        self.relayed = min(len(self.frames), self.relayed + count)

    @rule(count=st.integers(1, 6))
    def drain(self, count: int) -> None:
        behind = sum(len(frame) for frame in self.frames[: self.relayed])
        self.drained = min(behind, self.drained + count)

    @rule()
    def measure(self) -> None:
        behind = sum(len(frame) for frame in self.frames[: self.relayed])
        self.line.measured(relayed_seq=self.relayed, queued=behind - self.drained)
        assert self.line.drained == self.drained

    @precondition(lambda self: self.all)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        order = data.draw(st.sampled_from(self.all))
        self.line.release(order.order_id)
        self.released.add(order.order_id)

    @rule()
    def trim(self) -> None:
        self.line.trim()

    @invariant()
    def every_queued_order_is_known_at_its_place(self) -> None:
        for ordinal, order in enumerate(self.all, start=1):
            entry = self.line.find(order.order_id)
            if entry is None:
                assert ordinal <= self.drained, "a queued order was forgotten"
                continue
            assert entry.ordinal == ordinal
            # Never told to be nearer to the front than it is.
            assert self.line.position(entry) >= ordinal - self.drained

    @invariant()
    def what_is_known_and_not_released_counts(self) -> None:
        for customer in ("c0", "c1", "c2"):
            counted = sum(
                order.quantity
                for order in self.all
                if order.customer_id == customer
                and order.order_id not in self.released
                and self.line.find(order.order_id) is not None
            )
            assert self.line.bought("s1", customer) == counted

    @invariant()
    def memory_is_bounded_by_what_is_queued(self) -> None:
        self.line.trim()
        assert len(self.line._entries) <= max(self.KEEP, len(self.all) - self.line.drained)


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
