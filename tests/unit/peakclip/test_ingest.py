from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from fakes import ScriptedJetStream, on_virtual_clock
from hypothesis import given
from hypothesis import strategies as st
from support import make_order, submit

from peakclip import topology
from peakclip.errors import OutcomeUnknownError, RefusedError, UnavailableError
from peakclip.ingest import (
    GROUP_DEADLINE_SECONDS,
    LEAST_PLACES,
    SOLD_OUT_PROBE_SECONDS,
    BusyError,
    Intake,
    IntakeUnavailableError,
    SoldOutError,
    grant,
    may_start,
)
from peakclip.jetstream import WRONG_LAST_SEQUENCE
from peakclip.messages import Order, decode_frame
from peakclip.outcomes import InDoubtError

FULL = RefusedError(10077, "maximum bytes exceeded")
EXISTS = RefusedError(WRONG_LAST_SEQUENCE, "wrong last sequence")
UNKNOWN = OutcomeUnknownError()
AWAY = UnavailableError()


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(-100, 500))
def test_nobody_gets_a_unit_that_is_not_there_and_nobody_who_fits_is_refused(
    quantities: list[int], units: int
) -> None:
    granted = grant(quantities, units)
    assert len(granted) == len(quantities)
    left = units
    for quantity, yes in zip(quantities, granted, strict=True):
        assert yes == (quantity <= left)
        left -= quantity * yes
    assert left >= min(0, units)


@given(st.integers(0, 1_000), st.integers(1, 5))
def test_a_frame_beside_others_flies_only_when_it_is_well_filled(waiting: int, flying: int) -> None:
    assert may_start(waiting, 0) == (waiting >= 1)
    assert may_start(waiting, flying) == (waiting >= topology.MAX_ORDERS_PER_FRAME // 2)


class Counter:
    """An intake that runs, and what it did."""

    def __init__(self, js: ScriptedJetStream, in_flight: int) -> None:
        self.js = js
        self.stored: list[tuple[int, list[Order]]] = []
        self.intake = Intake(
            cast("Any", js), lambda seq, orders: self.stored.append((seq, orders)), in_flight=in_flight
        )

    async def outcomes(self, *orders: Order) -> list[int | BaseException]:
        """What each is told: the frame's sequence or the error."""
        answers = [submit(self.intake, order) for order in orders]
        return list(await asyncio.gather(*answers, return_exceptions=True))

    async def settled(self) -> None:
        """What is done off the accept path is done."""
        await asyncio.gather(*self.intake._side_work)

    def frames(self) -> list[list[str]]:
        return [
            [order.order_id for order in decode_frame(frame.payload)] for frame in self.js.frames.values()
        ]

    def returned(self) -> dict[str, int]:
        """Units put back on offer, by what kind of movement."""
        found: dict[str, int] = {}
        for _, units, message_id in self.js.increments:
            if units > 0:
                found[message_id[0]] = found.get(message_id[0], 0) + units
        return found


@contextlib.asynccontextmanager
async def running(js: ScriptedJetStream, in_flight: int = 1) -> AsyncIterator[Counter]:
    counter = Counter(js, in_flight)
    task = asyncio.create_task(counter.intake.run())
    await asyncio.sleep(0)
    try:
        yield counter
        await counter.settled()
        assert not task.done(), "the intake died"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def ids(orders: list[Order]) -> list[str]:
    return [order.order_id for order in orders]


@on_virtual_clock
async def test_what_waits_becomes_one_frame_and_one_reservation() -> None:
    orders = [make_order() for _ in range(100)]
    async with running(ScriptedJetStream(s1=100)) as counter:
        assert await counter.outcomes(*orders) == [1] * 100
    assert counter.frames() == [ids(orders)]
    assert [(sale, units) for sale, units, _ in counter.js.increments] == [("s1", -100)]
    assert counter.stored == [(1, orders)]


@on_virtual_clock
async def test_a_frame_holds_no_more_than_it_may() -> None:
    most = topology.MAX_ORDERS_PER_FRAME
    async with running(ScriptedJetStream(s1=1_000)) as counter:
        await counter.outcomes(*(make_order() for _ in range(most + 1)))
    assert [len(frame) for frame in counter.frames()] == [most, 1]


@on_virtual_clock
async def test_what_comes_while_a_frame_is_in_flight_makes_up_the_next() -> None:
    js = ScriptedJetStream(s1=10)
    async with running(js) as counter:
        first = submit(counter.intake, make_order())
        await js.published.wait()
        others = [submit(counter.intake, make_order()) for _ in range(5)]
        assert [await first, *[await one for one in others]] == [1, 2, 2, 2, 2, 2]


@on_virtual_clock
async def test_the_frame_carries_how_many_orders_it_holds_and_its_name_is_new() -> None:
    async with running(ScriptedJetStream(s1=10)) as counter:
        await counter.outcomes(make_order())
        await counter.outcomes(make_order(), make_order())
    assert [frame.headers[topology.FRAME_ORDERS_HEADER] for frame in counter.js.frames.values()] == ["1", "2"]
    assert len(counter.js.frames) == 2


@on_virtual_clock
async def test_what_was_taken_too_much_goes_back_at_once_and_is_told_sold_out() -> None:
    async with running(ScriptedJetStream(s1=3)) as counter:
        told = await counter.outcomes(*(make_order(quantity=2) for _ in range(3)))
        await counter.settled()
        assert told[0] == 1
        assert [type(one) for one in told[1:]] == [SoldOutError, SoldOutError]
        assert counter.js.counters == {"s1": 1}
        assert counter.returned() == {"o": 4}
        assert await counter.outcomes(make_order()) == [2]  # one unit is left, so the sale is not sold out


@on_virtual_clock
async def test_a_sale_that_is_sold_out_is_asked_once_a_second() -> None:
    async with running(ScriptedJetStream(s1=1)) as counter:
        await counter.outcomes(make_order(), make_order())
        asked = len(counter.js.increments)
        with pytest.raises(SoldOutError):
            submit(counter.intake, make_order())
        assert len(counter.js.increments) == asked
        counter.js.counters["s1"] += 1  # somebody's order was cancelled
        await asyncio.sleep(SOLD_OUT_PROBE_SECONDS)
        assert await counter.outcomes(make_order()) == [2]


@on_virtual_clock
async def test_one_sale_sold_out_does_not_concern_another() -> None:
    async with running(ScriptedJetStream(s1=0, s2=2)) as counter:
        told = await counter.outcomes(make_order(), make_order(sale_id="s2"), make_order(sale_id="s2"))
    assert isinstance(told[0], SoldOutError)
    assert told[1:] == [1, 1]


@on_virtual_clock
async def test_a_full_stream_gives_the_units_back() -> None:
    js = ScriptedJetStream(s1=10)
    js.publishing = [FULL]
    async with running(js) as counter:
        told = await counter.outcomes(make_order(quantity=3), make_order())
        assert [type(one) for one in told] == [IntakeUnavailableError] * 2
        await counter.settled()
        assert counter.returned() == {"b": 4}
        assert js.counters == {"s1": 10}
        assert await counter.outcomes(make_order()) == [1]
    assert len(counter.stored) == 1


@on_virtual_clock
async def test_a_server_that_stays_away_gives_the_units_back_once_the_deadline_is_past() -> None:
    """Nothing was ever sent, so nothing can have been stored."""
    js = ScriptedJetStream(s1=10)
    js.publishing = [AWAY] * 1_000
    loop = asyncio.get_running_loop()
    async with running(js) as counter:
        began = loop.time()
        told = await counter.outcomes(make_order(quantity=3))
        assert isinstance(told[0], IntakeUnavailableError)
        assert GROUP_DEADLINE_SECONDS <= loop.time() - began < GROUP_DEADLINE_SECONDS + 0.2
        await counter.settled()
        assert counter.returned() == {"b": 3}


@on_virtual_clock
async def test_a_server_that_is_away_for_a_moment_costs_nothing_but_that_moment() -> None:
    js = ScriptedJetStream(s1=10)
    js.publishing = [AWAY] * 20
    async with running(js) as counter:
        assert await counter.outcomes(make_order()) == [1]
    assert counter.returned() == {}


@pytest.mark.parametrize(
    "publishing",
    [
        [UNKNOWN],
        [(True, UNKNOWN), EXISTS],
        [UNKNOWN, UNKNOWN, AWAY],
        [(True, UNKNOWN), AWAY, AWAY, EXISTS],
        [UNKNOWN, FULL, FULL],
    ],
)
@on_virtual_clock
async def test_an_unknown_outcome_is_found_out_by_the_same_frame_again(publishing: list[Any]) -> None:
    js = ScriptedJetStream(s1=10)
    js.publishing = list(publishing)
    async with running(js) as counter:
        assert await counter.outcomes(make_order(quantity=2)) == [1]
    assert len(js.frames) == 1
    assert js.counters == {"s1": 8}
    assert len(counter.stored) == 1


@pytest.mark.parametrize("failure", [UNKNOWN, AWAY, RefusedError(10059, "stream not found")])
@on_virtual_clock
async def test_a_stored_frame_that_cannot_be_looked_up_keeps_its_units(failure: Exception) -> None:
    """They are sold: given back, they would be sold a second time."""
    js = ScriptedJetStream(s1=10)
    js.publishing = [(True, UNKNOWN), EXISTS, EXISTS]
    js.looking = [failure]
    async with running(js) as counter:
        assert await counter.outcomes(make_order(quantity=2)) == [1]
    assert counter.returned() == {}


@on_virtual_clock
async def test_a_stored_frame_that_is_never_found_is_left_to_the_reconciler() -> None:
    js = ScriptedJetStream(s1=10)
    js.publishing = [(True, UNKNOWN)] + [EXISTS] * 1_000
    js.looking = [AWAY] * 1_000
    async with running(js) as counter:
        assert isinstance((await counter.outcomes(make_order()))[0], IntakeUnavailableError)
        await counter.settled()
    assert counter.returned() == {}


@pytest.mark.parametrize(
    "refusals", [[UNKNOWN] * 1_000, [UNKNOWN] + [FULL] * 1_000, [UNKNOWN] + [AWAY] * 1_000]
)
@on_virtual_clock
async def test_an_outcome_that_stays_unknown_is_left_to_the_reconciler(refusals: list[Exception]) -> None:
    js = ScriptedJetStream(s1=10)
    js.publishing = list(refusals)
    loop = asyncio.get_running_loop()
    async with running(js) as counter:
        began = loop.time()
        assert isinstance((await counter.outcomes(make_order()))[0], IntakeUnavailableError)
        assert loop.time() - began < GROUP_DEADLINE_SECONDS + 0.2
        await counter.settled()
    assert counter.returned() == {}


@on_virtual_clock
async def test_a_group_that_was_fenced_off_is_refused_and_gives_nothing_back() -> None:
    """The reconciler has returned its units already."""
    js = ScriptedJetStream(s1=10)
    real = js.publish

    async def fenced(subject: str, payload: bytes, **options: Any) -> Any:
        await real(subject, b"", headers={topology.FRAME_ORDERS_HEADER: "0"})
        raise EXISTS

    js.publish = fenced  # type: ignore[method-assign]
    async with running(js) as counter:
        assert isinstance((await counter.outcomes(make_order()))[0], IntakeUnavailableError)
        await counter.settled()
    assert counter.returned() == {}
    assert counter.stored == []


@pytest.mark.parametrize("failure", [UNKNOWN, AWAY, FULL])
@on_virtual_clock
async def test_without_a_reservation_nothing_is_stored(failure: Exception) -> None:
    js = ScriptedJetStream(s1=10)
    js.incrementing = [failure]
    async with running(js) as counter:
        assert isinstance((await counter.outcomes(make_order()))[0], IntakeUnavailableError)
        assert js.frames == {}
        assert await counter.outcomes(make_order()) == [1]


@on_virtual_clock
async def test_nobody_is_left_without_an_answer_when_the_process_stops() -> None:
    js = ScriptedJetStream(s1=1_000)
    js.publishing = [UNKNOWN] * 1_000
    counter = Counter(js, in_flight=2)
    task = asyncio.create_task(counter.intake.run())
    answers = [submit(counter.intake, make_order()) for _ in range(600)]
    await js.published.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    told = await asyncio.wait_for(asyncio.gather(*answers, return_exceptions=True), 1)
    assert {type(one) for one in told} == {IntakeUnavailableError}


@on_virtual_clock
async def test_nobody_is_left_without_an_answer_by_a_defect_either() -> None:
    js = ScriptedJetStream(s1=1_000)
    js.incrementing = [ZeroDivisionError()]
    counter = Counter(js, in_flight=1)
    task = asyncio.create_task(counter.intake.run())
    answers = [submit(counter.intake, make_order()) for _ in range(600)]
    told = await asyncio.wait_for(asyncio.gather(*answers, return_exceptions=True), 1)
    assert {type(one) for one in told} == {IntakeUnavailableError}
    with pytest.raises(ExceptionGroup):  # the process stops by it, loudly
        await task


@on_virtual_clock
async def test_who_has_waited_for_too_long_is_refused_and_takes_nothing() -> None:
    """A server that stands still holds the first group up for five seconds; behind it nobody waits for their turn."""
    js = ScriptedJetStream(s1=1_000)
    js.publishing = [UNKNOWN] * 1_000
    async with running(js) as counter:
        first = submit(counter.intake, make_order())
        await js.published.wait()
        early = [submit(counter.intake, make_order()) for _ in range(300)]
        await asyncio.sleep(1.0)
        late = submit(counter.intake, make_order())
        js.publishing = [UNKNOWN] * 1_000
        told = await asyncio.gather(first, *early, return_exceptions=True)
        js.publishing = []
        assert type(told[0]) is InDoubtError
        assert {type(one) for one in told[1:]} == {BusyError}
        assert await late == 1
    assert len(counter.stored) == 1


@on_virtual_clock
async def test_as_many_may_wait_as_are_stored_soon() -> None:
    js = ScriptedJetStream(s1=1_000)
    async with running(js) as counter:
        assert counter.intake.places() > 1_000_000, "nothing is known yet"
        js.publishing = [AWAY] * 10  # half a second
        await counter.outcomes(make_order())
        assert counter.intake.places() == pytest.approx(topology.MAX_ORDERS_PER_FRAME * 3 / 0.5, rel=0.02)
        js.publishing = [AWAY] * 1_000
        await counter.outcomes(make_order())
        assert counter.intake.places() == LEAST_PLACES
