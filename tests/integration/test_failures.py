"""What fails suffers alone: its neighbours pass, its waiting costs nobody a place; in the end it is done, or dead."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from integration import ending_worker
from pools import batch_pool, drain, relay
from support import insert_sale, make_order, unfinished, until

from peakclip import messages, topology
from peakclip.errors import OutcomeUnknownError
from peakclip.jetstream import InMessage, JetStream, OutMessage
from peakclip.limiter.pace import set_pace
from peakclip_operator.lag import JetStreamDelayed
from peakclip_worker.batch import MAX_ATTEMPTS, BatchPool
from peakclip_worker.pools.orders import DrainOrders
from peakclip_worker.suspects import MOST_BEGUN

pytestmark = pytest.mark.integration

POOL = topology.ORDERS_POOL
SUBJECT = topology.ASYNC_ORDER_SUBJECT
POISON = b"poison"


class Refuses:
    """Work that counts how often each message was begun, and refuses a batch with poison in it."""

    def __init__(self) -> None:
        self.begun: Counter[bytes] = Counter()
        self.finished: list[bytes] = []
        self.batches: list[int] = []

    def read(self, message: InMessage) -> bytes:
        return message.payload

    async def commit(self, items: Sequence[tuple[bytes, InMessage]], started_at: float) -> None:
        payloads = [payload for payload, _ in items]
        self.begun.update(payloads)
        self.batches.append(len(payloads))
        if any(payload.startswith(POISON) for payload in payloads):
            raise ValueError("it is poison")
        self.finished += payloads


@pytest.fixture
async def fast(js: JetStream) -> JetStream:
    await set_pace(js, POOL, limit_per_second=5_000)
    return js


async def put(js: JetStream, payloads: Sequence[bytes]) -> None:
    await js.publish_batch(
        [OutMessage(SUBJECT, one, {"Nats-Msg-Id": f"id-{one.decode()}"}) for one in payloads]
    )


async def idle(js: JetStream) -> bool:
    return await unfinished(js, topology.SECKILL, POOL) == 0


async def letters(database: Any) -> dict[str, tuple[int, str]]:
    rows = await database.fetch("select message_id, attempts, cause from dead_letters")
    return {row["message_id"]: (row["attempts"], row["cause"]) for row in rows}


async def test_poison_delays_its_neighbours_by_one_retry_and_is_dead_after_three_attempts(
    fast: JetStream, database: Any
) -> None:
    """Once for the batch that was refused, once alone; the poison comes back alone, and never with others again."""
    good = [b"good-%d" % number for number in range(45)]
    poison = [b"poison-%d" % number for number in range(5)]
    await put(fast, [*good[:20], *poison, *good[20:]])
    work = Refuses()
    async with relay(fast, database, ["timers"]), drain(fast, batch_pool(POOL, fast, database, work), POOL):
        await until(lambda: all_dead(database, 5))
        await until(lambda: idle(fast))
    assert sorted(work.finished) == sorted(good)
    assert max(work.begun[one] for one in good) <= 2
    assert {work.begun[one] for one in poison} <= set(range(2, MAX_ATTEMPTS + 1))
    assert {letter[0] for letter in (await letters(database)).values()} == {MAX_ATTEMPTS}
    assert max(work.batches) > 5, "they were together in the beginning"


async def test_a_worker_whose_clock_is_ahead_lets_nobody_wait_longer(
    fast: JetStream, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_time = time.time
    monkeypatch.setattr(time, "time", lambda: true_time() + 3_600)
    await put(fast, [b"poison"])
    work = Refuses()
    async with relay(fast, database, ["timers"]), drain(fast, batch_pool(POOL, fast, database, work), POOL):
        await until(lambda: all_dead(database, 1))


async def all_dead(database: Any, count: int) -> bool:
    return len(await letters(database)) == count


async def test_what_waits_for_its_next_attempt_takes_no_place_in_flight_and_is_no_lag(
    fast: JetStream, database: Any
) -> None:
    """Twenty may be in flight; a hundred fail and wait for minutes; the healthy one behind them passes."""
    name = {"durable_name": POOL, "ack_policy": "explicit", "deliver_policy": "all"}
    config = {**name, **topology.CONSUMERS[topology.SECKILL, POOL], "max_ack_pending": 20}
    await fast.ensure_consumer(topology.SECKILL, config)
    await put(fast, [*(b"poison-%d" % number for number in range(100)), b"good"])
    work = Refuses()
    pool = BatchPool(POOL, fast, database, work, backoff_seconds=(300.0, 300.0))
    async with relay(fast, database, ["timers"]), drain(fast, pool, POOL):
        await until(lambda: work.finished, 20)
        await until(lambda: idle(fast))
    assert work.finished == [b"good"]
    assert await letters(database) == {}
    assert await JetStreamDelayed(fast, POOL).read() == 100
    assert await fast.count_messages(topology.TIMERS, topology.delayed_subject(POOL, ">")) == 100


# -- crashes -----------------------------------------------------------------------------------------------


async def in_hand(js: JetStream) -> list[InMessage]:
    return await js.pull(topology.SECKILL, POOL).fetch(10, 2.0)


async def test_a_crash_between_the_dead_letter_and_the_acknowledgement(
    fast: JetStream, database: Any
) -> None:
    await put(fast, [b"poison"])
    for _ in range(3):
        pool = batch_pool(POOL, fast, database, Unreadable())
        (message,) = await in_hand(fast)
        assert (await pool.process([message], 0.0)).finished == [message]
        await message.nak()  # instead of the acknowledgement, so that it need not be waited for
    (message,) = await in_hand(fast)
    await message.ack()
    assert await letters(database) == {"id-poison": (1, "unreadable: nobody can read this")}
    assert await idle(fast)


class Unreadable(Refuses):
    def read(self, message: InMessage) -> bytes:
        import msgspec

        raise msgspec.DecodeError("nobody can read this")


async def test_a_crash_between_the_schedule_and_the_acknowledgement(fast: JetStream, database: Any) -> None:
    """The message comes again beside the schedule it has left: the same attempt is scheduled once."""
    await put(fast, [b"poison"])
    work = Refuses()
    for _ in range(3):
        pool = batch_pool(POOL, fast, database, work)
        (message,) = await in_hand(fast)
        assert (await pool.process([message], 0.0)).finished == [message]
        await message.nak()
    async with relay(fast, database, ["timers"]), drain(fast, batch_pool(POOL, fast, database, work), POOL):
        await until(lambda: all_dead(database, 1))
        await until(lambda: idle(fast))
    assert await letters(database) == {"id-poison": (3, "ValueError('it is poison')")}
    assert await fast.count_messages(topology.SECKILL, topology.retry_subject(POOL)) == 2, "attempts 2 and 3"


async def test_a_crash_between_the_move_back_and_the_acknowledgement(fast: JetStream, database: Any) -> None:
    """The relay has put the message back into its pool's stream and dies: the next one puts it there again, once."""
    from peakclip_worker.timers import Timers

    await put(fast, [b"poison"])
    work = Refuses()
    (message,) = await in_hand(fast)
    await batch_pool(POOL, fast, database, work).process([message], 0.0)
    await message.ack()
    pull = fast.pull(topology.TIMERS, topology.RELAY)
    (due,) = await pull.fetch(1, 5.0)
    timers = Timers(fast, lambda: None)
    await timers._handle(due)
    await timers._handle(due)
    assert await fast.count_messages(topology.SECKILL, topology.retry_subject(POOL)) == 1


class Undecided(JetStream):
    """Schedules are stored, and nobody hears of it."""

    deaf = True

    async def publish(self, subject: str, payload: bytes, **options: Any) -> Any:
        stored = await super().publish(subject, payload, **options)
        if self.deaf and subject.startswith("timer."):
            raise OutcomeUnknownError
        return stored


async def test_a_pool_whose_stream_is_full_keeps_no_other_from_its_next_attempt(
    js: JetStream, database: Any
) -> None:
    """Both are due, the full one first, and the relay gets both at once."""
    events = {"name": topology.EVENTS, **topology.STREAMS[topology.EVENTS], "max_msgs": 1}
    await js.ensure_stream(events)
    await js.publish("order.created", b"{}")
    for pool in (topology.EFFECTS_POOL, POOL):
        headers = {topology.MESSAGE_ID_HEADER: f"of-{pool}", topology.ATTEMPT_HEADER: "2"}
        await js.publish(topology.due_subject(pool), b"again", headers=headers)
    async with relay(js, database, ["timers"]):
        await until(lambda: js.last_message(topology.SECKILL, topology.retry_subject(POOL)), 10)
        await until(lambda: one_waits(js))


async def one_waits(js: JetStream) -> bool:
    return bool(await unfinished(js, topology.TIMERS, topology.RELAY) == 1)


async def test_a_schedule_of_unknown_outcome_is_made_again_and_counts_once(
    fast: JetStream, database: Any, nats_url: str
) -> None:
    await put(fast, [b"poison"])
    async with await Undecided.connect(nats_url, name="worker") as undecided:
        pool = BatchPool(POOL, undecided, database, Refuses(), backoff_seconds=(300.0, 300.0))
        (message,) = await undecided.pull(topology.SECKILL, POOL).fetch(1, 2.0)
        for _ in range(2):
            assert (await pool.process([message], 0.0)).again == [message]
        undecided.deaf = False
        assert (await pool.process([message], 0.0)).finished == [message]
        await message.ack()
    assert await fast.count_messages(topology.TIMERS, topology.delayed_subject(POOL, ">")) == 1


async def test_an_order_that_was_committed_by_another_while_its_retry_waited_is_one_order(
    fast: JetStream, database: Any
) -> None:
    await insert_sale(database)
    order = make_order()
    await fast.publish(
        topology.seckill_subject("s1"), messages.encode(order), message_id="f1.0",
        headers={topology.FRAME_HEADER: "f1"},
    )  # fmt: skip
    (message,) = await in_hand(fast)
    await batch_pool(POOL, fast, database, Broken(database)).process([message], 0.0)  # scheduled, and dies
    await message.nak()
    async with (
        relay(fast, database, ["timers"]),
        drain(fast, batch_pool(POOL, fast, database, DrainOrders(database)), POOL),
    ):
        await until(lambda: both_came(fast))
        await until(lambda: idle(fast))
    assert await database.fetchval("select count(*) from orders") == 1
    assert await database.fetchval("select reserved from sales") == 1
    assert await database.fetchval("select count(*) from outbox where increment is not null") == 0


class Broken(DrainOrders):
    async def commit(self, items: Any, started_at: float) -> None:
        raise ValueError("not this time")


async def both_came(js: JetStream) -> bool:
    return await js.count_messages(topology.SECKILL, topology.retry_subject(POOL)) == 1


# -- a message that ends its worker ------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def restarted(nats_url: str, database_url: str) -> AsyncIterator[list[int]]:
    """A worker process that is started again whenever it ends, as the operator does it; its exit codes so far."""
    exits: list[int] = []
    arguments = [sys.executable, str(Path(ending_worker.__file__)), nats_url, database_url]

    async def keep_up() -> None:
        while True:
            process = await asyncio.create_subprocess_exec(*arguments)
            try:
                exits.append(await process.wait())
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()

    task = asyncio.create_task(keep_up())
    try:
        yield exits
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_message_that_ends_its_worker_ends_alone_and_its_neighbours_pass(
    fast: JetStream, database: Any, nats_url: str, fresh_database_url: str
) -> None:
    """One of twenty. What comes again after a lost worker comes after half a second here, not after ten."""
    await database.execute("create table begun (what text); create table finished (what text)")
    name = {"durable_name": POOL, "ack_policy": "explicit", "deliver_policy": "all"}
    config = {**name, **topology.CONSUMERS[topology.SECKILL, POOL], "ack_wait": 500_000_000}
    await fast.ensure_consumer(topology.SECKILL, config)
    good = [b"good-%d" % number for number in range(20)]
    await put(fast, [*good[:7], POISON, *good[7:]])
    async with restarted(nats_url, fresh_database_url) as exits:
        await until(lambda: all_dead(database, 1), 100)
        await until(lambda: idle(fast), 30)
    assert set(exits) == {ending_worker.EXIT}
    cause = f"its worker ended {MOST_BEGUN} times while it worked on this message alone"
    assert await letters(database) == {"id-poison": (MOST_BEGUN, cause)}
    begun = Counter(row["what"] for row in await database.fetch("select what from begun"))
    finished = Counter(row["what"] for row in await database.fetch("select what from finished"))
    assert finished == dict.fromkeys([one.decode() for one in good], 1)
    assert max(begun[one.decode()] for one in good) <= 2, "with the others, and alone"
    # Once or twice among others or alone without a record, then on record.
    assert MOST_BEGUN < begun["poison"] == len(exits) <= MOST_BEGUN + 2
    assert await database.fetchval("select count(*) from begun_alone") == 0


async def test_a_worker_that_dies_by_chance_makes_no_dead_letter(fast: JetStream, database: Any) -> None:
    """Given out again and again to workers that were killed before they began it, and twice while they did."""
    await put(fast, [b"good"])
    work = Refuses()
    for death in range(10):
        (message,) = await in_hand(fast)
        pool = batch_pool(POOL, fast, database, work)
        if death in (4, 7):
            await pool._record.begin(message)
        await message.nak()
    (message,) = await in_hand(fast)
    pool = batch_pool(POOL, fast, database, work)
    assert (await pool.process([message], 0.0)).finished == [message]
    await message.ack()
    assert work.finished == [b"good"]
    assert await letters(database) == {}
    assert await database.fetchval("select count(*) from begun_alone") == 0
