"""Units that nobody sold come back, and only those, whatever died at which moment."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest
from support import make_order, new_name, offer, on_offer, store_frame, submit, unfinished, until

from peakclip import streams, topology
from peakclip.errors import OutcomeUnknownError
from peakclip.ingest import Intake, IntakeUnavailableError
from peakclip.jetstream import JetStream, PubAck
from peakclip.messages import Order
from peakclip.service import Service
from peakclip_worker.reconciler import FETCH, Reconciler

pytestmark = pytest.mark.integration

GRACE = 0.3


@contextlib.asynccontextmanager
async def running(js: JetStream, grace_seconds: float = GRACE) -> AsyncIterator[Reconciler]:
    service = Service()
    reconciler = Reconciler(js, grace_seconds)
    task = asyncio.create_task(reconciler.run(service))
    yield reconciler
    assert not task.done(), "the reconciler died"
    service.stopping.set()
    await asyncio.wait_for(task, 10)


async def settled(js: JetStream) -> bool:
    """Everything on STOCK has been looked at and acknowledged."""
    return await unfinished(js, topology.STOCK, "reconciler") == 0


async def cancelled(js: JetStream, units: int) -> bool:
    """All is settled, and so many units are on offer."""
    return await settled(js) and await on_offer(js) == units


async def reserve(js: JetStream, frame_id: str, units: int, sale_id: str = "s1") -> float:
    """As an API process does; returns when."""
    await js.increment(
        topology.stock_subject(sale_id),
        -units,
        message_id=f"{topology.RESERVATION}-{frame_id}-{sale_id}",
        headers={topology.FRAME_HEADER: frame_id},
    )
    return time.time()


async def give_back(
    js: JetStream,
    frame_id: str,
    units: int,
    kind: str,
    *,
    reserved_at: float | None = None,
    sale_id: str = "s1",
) -> None:
    """As an API process does, by `o` (overdrawn) or `b` (back)."""
    headers = {
        topology.FRAME_HEADER: frame_id,
        topology.RESERVED_AT_HEADER: str(time.time() if reserved_at is None else reserved_at),
    }
    await js.increment(
        topology.stock_subject(sale_id), units, message_id=f"{kind}-{frame_id}-{sale_id}", headers=headers
    )


async def is_fenced(js: JetStream, frame_id: str) -> bool:
    frame = await js.last_message(topology.INTAKE, topology.frame_subject(frame_id))
    return frame is not None and frame.headers.get(topology.FRAME_ORDERS_HEADER) == "0"


async def test_a_reservation_without_a_frame_goes_back_behind_a_fence(js: JetStream) -> None:
    await offer(js, 100)
    await reserve(js, "dead", 64)
    async with running(js):
        await until(lambda: settled(js))
    assert await on_offer(js) == 100
    assert await is_fenced(js, "dead")


async def test_a_group_with_its_frame_is_left_alone(js: JetStream) -> None:
    await offer(js, 100)
    await reserve(js, "whole", 3)
    await store_frame(js, [make_order(quantity=2), make_order()], "whole")
    await reserve(js, "overdrawn", 5)
    await store_frame(js, [make_order(quantity=4)], "overdrawn")
    await give_back(js, "overdrawn", 1, "o")
    await reserve(js, "refused", 7)
    await give_back(js, "refused", 7, "b")
    before = (await js.stream_state(topology.STOCK)).messages
    async with running(js):
        await until(lambda: settled(js))
    assert (await js.stream_state(topology.STOCK)).messages == before
    assert await on_offer(js) == 93
    assert not await is_fenced(js, "whole")


async def test_an_overdraw_that_was_never_returned_goes_back(js: JetStream) -> None:
    await offer(js, 3)
    await reserve(js, "f1", 5)
    await store_frame(js, [make_order(), make_order(quantity=2)], "f1")
    async with running(js):
        await until(lambda: settled(js))
    assert await on_offer(js) == 0


async def test_units_of_a_frame_that_is_stored_but_were_given_back_are_taken_again(js: JetStream) -> None:
    await offer(js, 10)
    await reserve(js, "f1", 4)
    await store_frame(js, [make_order(quantity=4)], "f1")
    await give_back(js, "f1", 4, "b")
    async with running(js):
        await until(lambda: settled(js))
    assert await on_offer(js) == 6


async def test_an_old_group_is_not_settled_by_the_half_of_it_that_comes_first(js: JetStream) -> None:
    """The relay was away for longer than its patience, and its first fetch ends between the two movements."""
    await offer(js, 100)
    await asyncio.gather(*(js.increment(topology.stock_subject("s2"), 1) for _ in range(FETCH - 2)))
    reserved_at = await reserve(js, "f1", 10)
    await store_frame(js, [make_order(quantity=6)], "f1")
    await give_back(js, "f1", 4, "o")
    await until(lambda: time.time() - reserved_at > GRACE)
    async with running(js):
        await until(lambda: settled(js))
    assert await on_offer(js) == 94


async def test_units_that_were_returned_are_not_returned_again_when_the_reservation_comes_after_its_return(
    js: JetStream,
) -> None:
    """The relay died with the reservation in hand, and the next one is given the return first and alone."""
    await offer(js, 2)
    dead = js.pull(topology.STOCK, "reconciler")
    await reserve(js, "f1", 7)
    in_hand = await dead.fetch(10, 1.0)
    await give_back(js, "f1", 5, "o")
    async with running(js):
        await until(lambda: is_settled_but_for(js, len(in_hand)))
        for message in in_hand:
            await message.nak()  # as if its time were up
        await until(lambda: settled(js))
    assert await on_offer(js) == 2


async def is_settled_but_for(js: JetStream, messages: int) -> bool:
    return await unfinished(js, topology.STOCK, "reconciler") == messages


async def test_every_sale_of_a_group_is_settled_for_itself(js: JetStream) -> None:
    for sale in ("s1", "s2", "s3"):
        await offer(js, 10, sale)
        await reserve(js, "f1", 4, sale)
    await store_frame(js, [make_order(quantity=4, sale_id="s1"), make_order(quantity=1, sale_id="s2")], "f1")
    async with running(js):
        await until(lambda: settled(js))
    assert [await on_offer(js, sale) for sale in ("s1", "s2", "s3")] == [6, 9, 10]


async def test_a_return_that_comes_after_the_settlement_is_cancelled(js: JetStream) -> None:
    """A process that was stopped for minutes and then goes on: its units went back long ago."""
    await offer(js, 100)
    reserved_at = await reserve(js, "slow", 8)
    async with running(js):
        await until(lambda: settled(js))
        assert await on_offer(js) == 100
        await until(lambda: time.time() - reserved_at > GRACE)
        await give_back(js, "slow", 8, "b", reserved_at=reserved_at)
        await until(lambda: cancelled(js, 100))  # the server tells consumers of a message after its sender


async def test_nothing_is_settled_before_its_time(js: JetStream) -> None:
    await offer(js, 10)
    await reserve(js, "f1", 4)
    reservation = await js.message_from(topology.STOCK, 2)
    assert reservation is not None
    reconciler = Reconciler(js, grace_seconds=60)
    await reconciler._take_in(await reconciler._pull.fetch(10, 2.0), reservation.at)
    await reconciler._settle_due(reservation.at + 59.9)
    assert await on_offer(js) == 6
    assert not await is_fenced(js, "f1")
    await reconciler._settle_due(reservation.at + 60.1)
    assert await on_offer(js) == 10


async def test_nothing_is_settled_because_the_own_clock_is_set(
    js: JetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The overdraw of a group comes a moment after its reservation, and must find it open."""
    await offer(js, 7)
    reserved_at = await reserve(js, "f1", 10)
    true_time = time.time
    async with running(js, grace_seconds=60) as reconciler:
        await until(lambda: reconciler.settled_until)
        monkeypatch.setattr(time, "time", lambda: true_time() + 3_600)
        reconciler.settled_until = 0.0
        await until(lambda: reconciler.settled_until)
        assert not await is_fenced(js, "f1")
        await store_frame(js, [make_order(quantity=7)], "f1")
        await give_back(js, "f1", 3, "o", reserved_at=reserved_at)
        assert await on_offer(js) == 0


async def test_what_is_settled_is_told_by_the_clock_that_stamps_it(
    js: JetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames older than that are removed: one that is not settled would be taken for one that never was."""
    true_time = time.time
    monkeypatch.setattr(time, "time", lambda: true_time() + 3_600)
    async with running(js) as reconciler:
        await until(lambda: reconciler.settled_until)
        assert reconciler.settled_until < true_time()


class Deaf(JetStream):
    """What it acknowledges never arrives, as if the process had died just before."""

    async def request(self, subject: str, payload: bytes, **options: Any) -> Any:
        if subject.startswith("$JS.ACK."):
            raise OutcomeUnknownError
        return await super().request(subject, payload, **options)


async def test_a_settlement_that_is_repeated_counts_once(js: JetStream, nats_url: str) -> None:
    await offer(js, 100)
    await reserve(js, "dead", 8)
    await reserve(js, "overdrawn", 8)
    await store_frame(js, [make_order(quantity=5)], "overdrawn")
    async with await Deaf.connect(nats_url, name="dying") as dying, running(dying):
        await until(lambda: holds(js, 92))  # the first is settled, over and over
    assert not await settled(js)
    await js._api(f"CONSUMER.DELETE.{topology.STOCK}.reconciler")  # all comes again, and at once
    await streams.ensure(js)
    async with running(js):
        await until(lambda: settled(js))
    assert await on_offer(js) == 95


class HalfDeaf(JetStream):
    """Only what it says of the third message of the stream never arrives."""

    async def request(self, subject: str, payload: bytes, **options: Any) -> Any:
        if subject.startswith("$JS.ACK.") and subject.split(".")[5] == "3":
            raise OutcomeUnknownError
        return await super().request(subject, payload, **options)


async def test_a_late_return_is_cancelled_once_whether_it_comes_with_its_group_or_alone(
    js: JetStream, nats_url: str
) -> None:
    """The relay dies after it has settled the group, before it could acknowledge all of it."""
    await offer(js, 100)
    await reserve(js, "slow", 10)
    await store_frame(js, [make_order(quantity=6)], "slow")
    await give_back(js, "slow", 4, "o", reserved_at=time.time() - 2 * GRACE)
    async with await HalfDeaf.connect(nats_url, name="dying") as dying:
        async with running(dying) as reconciler:
            await until(lambda: reconciled(js, unfinished_messages=1))
            (group,) = reconciler._open.values()
        await group.by_seq[3].nak()
    async with running(js):
        await until(lambda: settled(js))
    assert await on_offer(js) == 94


async def reconciled(js: JetStream, *, unfinished_messages: int) -> bool:
    return await unfinished(js, topology.STOCK, "reconciler") == unfinished_messages


async def holds(js: JetStream, units: int) -> bool:
    return await on_offer(js) == units


# -- together with the group commit ------------------------------------------------------------------------


class Stopped(JetStream):
    """Stops between reservation and frame until it is told to go on; or for ever."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.reserved = asyncio.Event()
        self.go_on = asyncio.Event()

    async def publish(self, subject: str, payload: bytes, **options: Any) -> PubAck:
        if subject.startswith("intake."):
            self.reserved.set()
            await self.go_on.wait()
        return await super().publish(subject, payload, **options)


@contextlib.asynccontextmanager
async def stopped_process(nats_url: str) -> AsyncIterator[tuple[Stopped, Intake, list[Sequence[Order]]]]:
    stored: list[Sequence[Order]] = []
    async with await Stopped.connect(nats_url, name="api") as js:
        intake = Intake(js, lambda _, orders: stored.append(orders))
        task = asyncio.create_task(intake.run())
        yield js, intake, stored
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_process_that_dies_between_reservation_and_frame(js: JetStream, nats_url: str) -> None:
    await offer(js, 10)
    async with stopped_process(nats_url) as (api, intake, _):
        answers = [submit(intake, make_order(quantity=2)) for _ in range(3)]
        await api.reserved.wait()
        assert await on_offer(js) == 4
    assert all(isinstance(answer.exception(), IntakeUnavailableError) for answer in answers)
    async with running(js):
        await until(lambda: settled(js))
    assert await on_offer(js) == 10


async def test_a_process_that_wakes_up_too_late_is_fenced_off(js: JetStream, nats_url: str) -> None:
    """Its clients are told to retry, its orders are nowhere, its units are sold to others."""
    await offer(js, 10)
    async with stopped_process(nats_url) as (api, intake, stored):
        answer = submit(intake, make_order(quantity=4))
        await api.reserved.wait()
        async with running(js):
            await until(lambda: settled(js))
            assert await on_offer(js) == 10
            api.go_on.set()
            with pytest.raises(IntakeUnavailableError):
                await asyncio.wait_for(answer, 5)
            await until(lambda: settled(js))
    assert stored == []
    assert await on_offer(js) == 10
    assert (await js.stream_state(topology.INTAKE)).messages == 1  # the fence


async def test_a_process_that_is_slow_but_in_time_has_its_frame(js: JetStream, nats_url: str) -> None:
    await offer(js, 10)
    async with stopped_process(nats_url) as (api, intake, stored), running(js, grace_seconds=60):
        answer = submit(intake, make_order(quantity=4))
        await api.reserved.wait()
        api.go_on.set()
        assert await asyncio.wait_for(answer, 5) == 1
    assert len(stored) == 1
    assert await on_offer(js) == 6


async def test_a_frame_that_cannot_be_read_does_not_end_the_reconciler(js: JetStream) -> None:
    await offer(js, 10)
    await reserve(js, "poison", 4)
    headers: Mapping[str, str] = {topology.FRAME_ORDERS_HEADER: "4"}
    await js.publish(topology.frame_subject("poison"), b"\xff", headers=headers)
    await reserve(js, new_name("dead"), 3)
    async with running(js):
        await until(lambda: settled(js))
    assert await on_offer(js) == 10  # an unreadable frame is a dead letter, so it sells nothing
