from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import msgspec
import pytest
from fakes import SALE, HeldIntake, Rumour, waits

from peakclip.errors import OutcomeUnknownError, UnavailableError
from peakclip.ingest import IntakeUnavailableError, SoldOutError
from peakclip.messages import PoolStatus
from peakclip.outcomes import InDoubtError
from peakclip_api.accept import Accepted, Acceptor, fingerprint
from peakclip_api.board import Board
from peakclip_api.line import Line
from peakclip_api.problems import Problem
from peakclip_api.room import Room
from peakclip_api.sales import check_window
from peakclip_api.wait import Wait


class Desk:
    """An acceptor whose intake does what the test says."""

    def __init__(self) -> None:
        self.intake = HeldIntake()
        self.line = Line(keep=1_000)
        self.rumour = Rumour(self.line)
        self.acceptor = Acceptor(
            cast("Any", self.intake), self.line, self.rumour, waits(self.line, self.rumour)
        )

    async def ask(
        self, key: str = "k1", *, customer: str = "c1", quantity: int = 1
    ) -> asyncio.Task[Accepted]:
        task = asyncio.create_task(self.acceptor.accept(SALE, customer, key, quantity))
        await turns()
        return task

    async def stored(self, number: int) -> None:
        """The order taken as number `number` is on disk."""
        order, ended = self.intake.taken[number]
        self.line.add_own_frame(number + 1, [order])
        ended(number + 1)
        await turns()

    async def fails(self, number: int, error: SoldOutError | IntakeUnavailableError) -> None:
        self.intake.taken[number][1](error)
        await turns()


async def turns() -> None:
    """Lets every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


def kind(task: asyncio.Task[Accepted]) -> str:
    failure = task.exception()
    assert isinstance(failure, Problem)
    return failure.kind


@pytest.mark.parametrize(
    ("now", "status"), [(99.0, 425), (99.9999, 425), (100.0, None), (199.9, None), (200.0, 410), (1e9, 410)]
)
def test_the_window_includes_its_opening_and_excludes_its_close(now: float, status: int | None) -> None:
    sale = replace(SALE, opens=100.0, closes=200.0)
    if status is None:
        check_window(sale, now)
        return
    with pytest.raises(Problem) as caught:
        check_window(sale, now)
    assert caught.value.status == status
    if status == 425:
        assert 1 <= int(caught.value.headers["Retry-After"]) <= 2


def test_a_fingerprint_tells_its_parts_apart() -> None:
    prints = {
        fingerprint(*parts)
        for parts in [("a", "b", 1), ("ab", "", 1), ("", "ab", 1), ("b", "a", 1), ("a", "b", 11)]
    }
    assert len(prints) == 5


async def test_repeats_wait_for_the_first_and_get_its_answer() -> None:
    desk = Desk()
    asked = [await desk.ask() for _ in range(5)]
    assert len(desk.intake.taken) == 1
    await desk.stored(0)
    assert {task.result() for task in asked} == {Accepted(asked[0].result().order_id, 1, None)}


async def test_repeats_of_an_order_that_failed_are_one_new_try() -> None:
    """Two tries would be two units for one order in one frame, one of them lost for good."""
    desk = Desk()
    first, *others = [await desk.ask() for _ in range(4)]
    await desk.fails(0, IntakeUnavailableError())
    assert kind(first) == "queue-unavailable"
    assert len(desk.intake.taken) == 2
    await desk.stored(1)
    assert len({task.result().order_id for task in others}) == 1
    assert len(desk.intake.taken) == 2


async def test_who_has_bought_elsewhere_is_not_told_that_it_is_sold_out() -> None:
    """Another process accepted the order a moment ago, and this one has not heard of it yet."""
    desk = Desk()
    asked = await desk.ask("k1")
    desk.rumour.elsewhere = [desk.intake.taken[0][0]]
    await desk.fails(0, SoldOutError())
    assert asked.result().order_id == desk.intake.taken[0][0].order_id
    other = await desk.ask("k2", customer="c2")
    await desk.fails(1, SoldOutError())
    assert kind(other) == "sold-out"


async def test_the_same_key_for_another_order_elsewhere_is_a_reused_key() -> None:
    desk = Desk()
    asked = await desk.ask("k1")
    desk.rumour.elsewhere = [msgspec.structs.replace(desk.intake.taken[0][0], fingerprint="another")]
    await desk.fails(0, SoldOutError())
    assert kind(asked) == "idempotency-key-reused"


@pytest.mark.parametrize("failure", [UnavailableError(), OutcomeUnknownError()])
async def test_without_the_log_nobody_is_told_that_it_is_sold_out(failure: Exception) -> None:
    desk = Desk()
    desk.rumour.fails = failure
    asked = await desk.ask("k1")
    await desk.fails(0, SoldOutError())
    assert kind(asked) == "queue-unavailable"


async def test_repeats_of_an_order_that_was_sold_out_are_told_so() -> None:
    desk = Desk()
    asked = [await desk.ask() for _ in range(3)]
    for number in range(3):
        await desk.fails(number, SoldOutError())
    assert [kind(task) for task in asked] == ["sold-out"] * 3


async def test_what_is_being_stored_counts_against_the_limit() -> None:
    desk = Desk()
    first, second = await desk.ask("k1"), await desk.ask("k2")
    third = await desk.ask("k3")
    assert kind(third) == "limit-reached"
    await desk.fails(0, SoldOutError())
    assert kind(first) == "sold-out"
    again = await desk.ask("k4")
    await desk.stored(1)
    await desk.stored(2)
    assert (second.result().position, again.result().position) == (1, 2)
    assert kind(await desk.ask("k5")) == "limit-reached"


async def test_a_client_that_leaves_changes_nothing() -> None:
    desk = Desk()
    first = await desk.ask("k1", quantity=2)
    first.cancel()
    await turns()
    assert kind(await desk.ask("k2")) == "limit-reached"
    repeat = await desk.ask("k1", quantity=2)
    await desk.stored(0)
    assert repeat.result().position == 1
    assert len(desk.intake.taken) == 1


async def test_a_client_that_leaves_and_fails_frees_its_units() -> None:
    desk = Desk()
    first = await desk.ask("k1", quantity=2)
    first.cancel()
    await desk.fails(0, IntakeUnavailableError())
    last = await desk.ask("k2", quantity=2)
    await desk.stored(1)
    assert last.result().position == 1


@pytest.mark.parametrize("is_stored", [True, False])
async def test_an_order_in_doubt_counts_until_the_log_has_told(
    is_stored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its customer may have it already, and would get another one that the database must reject."""
    monkeypatch.setattr("peakclip_api.doubts._RETRY_SECONDS", 0.0)
    desk = Desk()
    desk.rumour.fails = UnavailableError()
    first = await desk.ask("k1", quantity=2)
    await desk.fails(0, InDoubtError())
    assert kind(first) == "queue-unavailable"
    assert kind(await desk.ask("k2", quantity=2)) == "queue-unavailable"
    assert len(desk.intake.taken) == 1
    if is_stored:
        desk.rumour.elsewhere = [desk.intake.taken[0][0]]
    desk.rumour.fails = None
    await turns()
    second = await desk.ask("k2", quantity=2)
    if is_stored:
        assert kind(second) == "limit-reached"
        assert (await desk.ask("k1", quantity=2)).result().position == 1
    else:
        await desk.stored(1)
        assert second.result().position == 1


async def test_another_request_with_the_key_of_one_in_flight_is_refused_at_once() -> None:
    desk = Desk()
    first = await desk.ask("k1")
    assert kind(await desk.ask("k1", quantity=2)) == "idempotency-key-reused"
    await desk.stored(0)
    assert first.result().position == 1
    assert kind(await desk.ask("k1", customer="c2")) == "idempotency-key-reused"


async def test_an_order_that_the_log_shows_before_its_answer_counts_once_against_the_limit() -> None:
    """Its frame is stored and its acknowledgement is lost: for seconds it is in the line and in flight."""
    desk = Desk()
    first = await desk.ask("k1")
    assert not desk.line.knows(1)
    desk.line.add_frame(1, [desk.intake.taken[0][0]])
    second = await desk.ask("k2")
    assert len(desk.intake.taken) == 2
    third = await desk.ask("k3")
    assert kind(third) == "limit-reached"
    await desk.stored(0)
    assert (await first).position == 1
    await desk.stored(1)
    assert (await second).position == 2
    assert kind(await desk.ask("k4")) == "limit-reached"


class Watched(Board):
    """A board on which the pool drains at this rate."""

    def __init__(self, effective: float | None, *, paused: bool = False) -> None:
        super().__init__(cast("Any", None))
        self.status = None if effective is None else status_of(effective, paused)

    def latest(self, pool: str) -> PoolStatus | None:
        return self.status


def status_of(effective: float, paused: bool) -> PoolStatus:
    unknown: dict[str, Any] = dict.fromkeys(PoolStatus.__struct_fields__)
    known = {"effective_per_second": effective, "paused": paused}
    return PoolStatus(**{**unknown, **known})


def watched(effective: float | None, *, paused: bool = False, longest: float | None = 10.0) -> Desk:
    desk = Desk()
    wait = Wait(desk.line, desk.rumour, Watched(effective, paused=paused), longest)
    desk.acceptor = Acceptor(cast("Any", desk.intake), desk.line, desk.rumour, wait)
    return desk


async def test_who_would_wait_too_long_is_told_when_to_come_again() -> None:
    """At 2/s twenty orders are 10 s; the one after them would wait for 10.5 s."""
    desk = watched(2.0)
    for number in range(20):
        await desk.ask(f"k{number}", customer=f"c{number}")
        if number < 12:  # the others are in flight, and count all the same
            await desk.stored(number)
    refused = await desk.ask("late", customer="late")
    failure = refused.exception()
    assert isinstance(failure, Problem)
    assert (failure.status, failure.kind, failure.headers) == (429, "line-too-long", {"Retry-After": "1"})
    assert len(desk.intake.taken) == 20
    again = await desk.ask("k3", customer="c3")
    assert again.result().order_id == desk.intake.taken[3][0].order_id  # who is in line stays in line
    desk.line.measured(relayed_seq=99, queued=3)
    welcome = await desk.ask("late", customer="late")
    await desk.stored(20)
    assert welcome.result().status == "queued"


async def test_a_line_that_lets_nobody_in_is_still_measured() -> None:
    desk = watched(2.0, longest=0.1)
    before = desk.rumour._asked_at
    assert kind(await desk.ask("k1")) == "line-too-long"
    assert desk.rumour._asked_at > before


@pytest.mark.parametrize(
    "desk",
    [
        lambda: watched(None),
        lambda: watched(2.0, paused=True),
        lambda: watched(0.0),
        lambda: watched(2.0, longest=None),
    ],
)
async def test_an_unknown_wait_refuses_nobody(desk: Callable[[], Desk]) -> None:
    this = desk()
    for number in range(40):
        await this.ask(f"k{number}", customer=f"c{number}")
    assert len(this.intake.taken) == 40


async def test_who_presses_finds_no_room_and_others_do() -> None:
    desk = Desk()
    room = Room(4)
    desk.acceptor = Acceptor(
        cast("Any", desk.intake), desk.line, desk.rumour, waits(desk.line, desk.rumour), room
    )

    async def asks(key: str, owner: str) -> asyncio.Task[Accepted]:
        task = asyncio.create_task(desk.acceptor.accept(SALE, f"of-{key}", key, 1, owner))
        await turns()
        return task

    pressing = [await asks(f"k{number}", "flood") for number in range(3)]
    assert kind(pressing[2]) == "too-busy"
    refusal = pressing[2].exception()
    assert isinstance(refusal, Problem)
    assert (refusal.status, refusal.headers["Retry-After"]) == (503, "1")
    assert room.taken == 2
    honest = await asks("h1", "honest")
    assert room.taken == 3
    for number in range(3):
        await desk.stored(number)
    assert honest.result().order_id
    assert room.taken == 0


async def test_a_sold_out_sale_takes_no_room() -> None:
    desk = Desk()
    room = Room(4)
    desk.intake.sold_out = True
    desk.acceptor = Acceptor(
        cast("Any", desk.intake), desk.line, desk.rumour, waits(desk.line, desk.rumour), room
    )
    for number in range(9):
        asked = asyncio.create_task(desk.acceptor.accept(SALE, "c1", f"k{number}", 1))
        await turns()
        assert kind(asked) == "sold-out"
    assert room.taken == 0
