"""Ordinary orders go through the same acceptor as those of flash sales."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

import msgspec
from fakes import SALE, HeldIntake, Rumour, waits

from peakclip import messages
from peakclip.errors import UnavailableError
from peakclip.ingest import IntakeUnavailableError
from peakclip.messages import Booking, Order
from peakclip_api.accept import Accepted, Acceptor
from peakclip_api.line import Line
from peakclip_api.problems import Problem, invalid


class Desk:
    def __init__(self) -> None:
        self.intake = HeldIntake()
        self.line = Line(keep=1_000)
        self.rumour = Rumour(self.line)
        self.acceptor = Acceptor(
            cast("Any", self.intake), self.line, self.rumour, waits(self.line, self.rumour)
        )
        self.checked: list[str] = []
        self.refuses = False

    async def check(self, order: Order) -> None:
        self.checked.append(order.order_id)
        await asyncio.sleep(0)
        if self.refuses:
            raise invalid("pet_id", "is gone")

    async def ask(self, key: str = "k1", **changes: Any) -> asyncio.Task[Accepted]:
        task = asyncio.create_task(self.acceptor.accept_booking(booked(key, **changes), self.check))
        await turns()
        return task

    async def stored(self, number: int) -> None:
        order, ended = self.intake.taken[number]
        self.line.add_own_frame(number + 1, [order])
        ended(number + 1)
        await turns()


def booked(key: str, **changes: Any) -> Order:
    order = Order(
        messages.order_id("t1", key), "t1", "c1", "", 1, f"print-{key}", 1.8e9,
        booking=Booking("pet", "package", "2026-12-24T10:00:00Z"),
    )  # fmt: skip
    return msgspec.structs.replace(order, **changes)


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def kind(task: asyncio.Task[Accepted]) -> str:
    failure = task.exception()
    assert isinstance(failure, Problem)
    return failure.kind


async def test_a_customer_books_as_often_as_it_likes() -> None:
    """No limit, no window, no stock."""
    desk = Desk()
    tasks = [await desk.ask(f"k{number}") for number in range(50)]
    assert len(desk.intake.taken) == 50
    for number in range(50):
        await desk.stored(number)
    assert [task.result().position for task in tasks] == list(range(1, 51))
    assert len(desk.acceptor._in_flight) == 0


async def test_repeats_are_one_order_in_flight_and_in_line() -> None:
    desk = Desk()
    tasks = [await desk.ask() for _ in range(5)]
    early = asyncio.create_task(desk.acceptor.repeat(booked("k1").order_id, "print-k1"))
    await turns()
    assert len(desk.intake.taken) == 1
    assert kind(await desk.ask(fingerprint="another")) == "idempotency-key-reused"
    await desk.stored(0)
    assert {task.result() for task in (*tasks, early)} == {tasks[0].result()}
    late = await desk.acceptor.repeat(booked("k1").order_id, "print-k1")
    assert late == tasks[0].result()
    assert kind(await desk.ask(fingerprint="another")) == "idempotency-key-reused"
    assert await desk.acceptor.repeat(booked("k2").order_id, "print-k2") is None
    assert len(desk.intake.taken) == 1


async def test_an_order_that_was_not_stored_can_be_tried_again() -> None:
    desk = Desk()
    first = await desk.ask()
    waiting = asyncio.create_task(desk.acceptor.repeat(booked("k1").order_id, "print-k1"))
    await turns()
    desk.intake.taken[0][1](IntakeUnavailableError())
    await turns()
    assert kind(first) == "queue-unavailable"
    assert waiting.result() is None  # it is not in line, and the caller goes its own way
    again = await desk.ask()
    await desk.stored(1)
    assert again.result().position == 1


async def test_a_key_is_of_a_sales_order_or_of_an_ordinary_one() -> None:
    desk = Desk()
    asked = asyncio.create_task(desk.acceptor.accept(replace(SALE, tenant="t1"), "c1", "k1", 1))
    await turns()
    assert kind(await desk.ask("k1")) == "idempotency-key-reused"
    await desk.stored(0)
    await asked
    assert kind(await desk.ask("k1")) == "idempotency-key-reused"


async def test_what_is_known_is_not_checked_again() -> None:
    desk = Desk()
    first = await desk.ask()
    await desk.stored(0)
    desk.refuses = True
    assert (await desk.ask()).result() == first.result()
    assert len(desk.checked) == 1
    assert kind(await desk.ask("k2")) == "invalid-request"


async def test_who_was_accepted_elsewhere_is_not_refused() -> None:
    """By another process a moment ago, of which this one has not heard."""
    desk = Desk()
    desk.refuses = True
    desk.rumour.elsewhere = [booked("k1")]
    assert (await desk.ask("k1")).result().position == 1
    desk.rumour.elsewhere = [booked("k2")]
    assert kind(await desk.ask("k2", fingerprint="another")) == "idempotency-key-reused"
    desk.rumour.fails = UnavailableError()
    assert kind(await desk.ask("k3")) == "queue-unavailable"  # nobody knows
    assert desk.intake.taken == []


async def test_two_that_are_checked_at_once_are_one_order() -> None:
    desk = Desk()
    asked = [asyncio.create_task(desk.acceptor.accept_booking(booked("k1"), desk.check)) for _ in range(3)]
    await turns()
    assert len(desk.intake.taken) == 1
    await desk.stored(0)
    assert len({task.result() for task in asked}) == 1
