"""The pool `effects` on real servers: from the outbox to effects and pushes, whatever comes twice or dies."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest
from business import (
    Happened,
    act,
    add_customer,
    add_provider,
    apply,
    effects_of,
    happened,
    new_order,
    review,
)
from nats.aio.msg import Msg
from pools import drain, effects_pool, own_connections, relay
from support import TENANT, unfinished, until

from peakclip import topology
from peakclip.jetstream import InMessage, JetStream
from peakclip.limiter.pace import set_pace
from peakclip.local.nats import NatsServer
from peakclip.local.postgres import PostgresServer
from peakclip.notifications import Notification, decode_notification, decode_trail

pytestmark = pytest.mark.integration

POOL = topology.EFFECTS_POOL


async def stories(database: Any, number: int = 12, *, seed: int = 1) -> list[Happened]:
    """Orders that went as orders go; returns the events, which wait in the outbox."""
    chance = random.Random(seed)
    for name in ("p-1", "p-2", "p-3"):
        await add_provider(
            database, name, email=f"{name}@example.org", webhook_url="https://example.org/hook"
        )
    for customer in ("c-0", "c-1", "c-2"):
        await add_customer(database, customer, email=f"{customer}@example.org")
    for n in range(number):
        customer, provider = f"c-{n % 4}", f"p-{1 + n % 3}"
        order = await new_order(database, customer, price_cents=chance.randrange(10_000))
        ways: list[Sequence[str]] = [
            ("pay", "accept", "start", "complete"),
            ("accept", "start", "pay", "complete"),
            ("accept", "cancel"),
            ("pay", "cancel"),
            (),
        ]
        actions = chance.choice(ways)
        await act(database, order, *actions, provider=provider)
        if "complete" in actions:
            await review(database, order, chance.randint(1, 5), customer, reply="Thanks" if n % 2 else None)
    return await happened(database)


@pytest.fixture
async def queue(js: JetStream) -> JetStream:
    await set_pace(js, POOL, limit_per_second=5_000)
    return js


async def published(js: JetStream, database: Any) -> None:
    """Everything that the outbox owes is in EVENTS."""
    async with relay(js, database, ["outbox"]):
        await until(lambda: owes_nothing(database))


async def owes_nothing(database: Any) -> bool:
    return await database.fetchval("select count(*) = 0 from outbox")  # type: ignore[no-any-return]


async def finished(js: JetStream) -> bool:
    return await unfinished(js, topology.EVENTS, POOL) == 0


@contextlib.asynccontextmanager
async def worker(nats_url: str, database_url: str) -> AsyncIterator[Any]:
    async with (
        own_connections(nats_url, database_url) as (js, database),
        drain(js, effects_pool(js, database), POOL) as one,
    ):
        yield one


class Pushes:
    """Hears every push, and what is said of the audit trail."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Notification]] = []
        self.trail: Counter[tuple[str, int]] = Counter()

    async def listen(self, js: JetStream) -> None:
        await js.subscribe_core("notification.push.*", self._push)
        await js.subscribe_core(topology.TRAIL, self._moved)
        await js.round_trip()

    async def _push(self, msg: Msg) -> None:
        self.told.append((msg.subject, decode_notification(msg.data)))

    async def _moved(self, msg: Msg) -> None:
        self.trail.update(decode_trail(msg.data))


async def in_the_test(database: Any, database_url: str, events: Sequence[Happened]) -> dict[str, Any]:
    """The effects of these events, each given once and in order; then everything is as before."""
    await apply(database, events)
    wanted = await effects_of(database)
    await database.execute(
        "truncate effects, order_history, daily_figures, tickets, inboxes, notifications, deliveries"
    )
    await database.execute("update providers set rating_count = 0, rating_sum = 0, completed_orders = 0")
    return wanted


async def test_events_become_effects_and_pushes(
    queue: JetStream, database: Any, nats_url: str, fresh_database_url: str
) -> None:
    events = await stories(database)
    wanted = await in_the_test(database, fresh_database_url, events)
    pushes = Pushes()
    await pushes.listen(queue)
    async with worker(nats_url, fresh_database_url):
        await published(queue, database)
        await until(lambda: finished(queue))
    assert await effects_of(database) == wanted
    rows = await database.fetch("select * from notifications order by notification_id")
    await queue.round_trip()
    await until(lambda: len(pushes.told) >= len(rows))
    by_id = {push.notification_id: (subject, push) for subject, push in pushes.told}
    assert len(by_id) == len(pushes.told) == len(rows) > 50
    for row in rows:
        subject, push = by_id[row["notification_id"]]
        assert subject == f"notification.push.{row['user_id']}"
        assert msgspec.structs.asdict(push) == {
            **{name: row[name] for name in ("notification_id", "number", "tenant", "audience", "user_id", "kind")},
            "title": row["title"], "body": row["body"], "data": msgspec.json.decode(row["data"]),
            "at": row["created_at"],
        }  # fmt: skip
    history = await database.fetch("select order_id::text, version from order_history")
    assert pushes.trail.keys() == {tuple(row) for row in history}


async def test_the_numbers_in_an_inbox_have_no_gap_and_ids_grow_with_them(database: Any) -> None:
    events = await stories(database)
    random.Random(3).shuffle(events)
    await asyncio.gather(*(apply(database, events[n::4]) for n in range(4)))
    rows = await database.fetch(
        "select audience || user_id as who, array_agg(number order by notification_id) as numbers"
        " from notifications group by 1"
    )
    assert len(rows) == 7
    for row in rows:
        assert row["numbers"] == list(range(1, len(row["numbers"]) + 1))


# -- the same again ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 7, 1_000])
async def test_every_batch_twice_and_again_in_other_batches(
    database: Any, fresh_database_url: str, size: int
) -> None:
    events = await stories(database)
    wanted = await in_the_test(database, fresh_database_url, events)
    for first in range(0, len(events), size):
        for expected in (True, False):
            answer = await apply(database, events[first : first + size])
            assert bool(answer["applied"]) is expected
            assert bool(answer["notifications"]) <= expected
    assert await effects_of(database) == wanted
    for other in (2, 5, len(events)):
        for first in range(0, len(events), other):
            answer = await apply(database, events[first : first + other], attempts=2)
            assert answer["applied"] == 0
            assert answer["notifications"] == []
    assert await effects_of(database) == wanted
    assert set(await database.fetchval("select array_agg(distinct attempts) from audit_effects")) == {1}


async def test_an_event_many_times_in_one_batch_counts_once(database: Any, fresh_database_url: str) -> None:
    events = await stories(database, 5)
    wanted = await in_the_test(database, fresh_database_url, events)
    answer = await apply(database, [*events, *events[::-1], *events])
    assert (answer["applied"], answer["repeated"]) == (len(events), 0)
    assert await effects_of(database) == wanted


@pytest.mark.parametrize("seed", range(4))
async def test_workers_with_the_same_events_in_hand_at_the_same_time(
    database: Any, fresh_database_url: str, seed: int
) -> None:
    """Eight connections, each with all events in an order and in batches of its own: no deadlock, each effect once."""
    chance = random.Random(seed)
    events = await stories(database, 20, seed=seed)
    wanted = await in_the_test(database, fresh_database_url, events)

    async def work() -> int:
        own = chance.sample(events, len(events))
        told = 0
        while own:
            size = chance.randint(1, 20)
            told += len((await apply(database, own[:size]))["notifications"])
            own = own[size:]
        return told

    told = await asyncio.gather(*(work() for _ in range(8)))
    assert await effects_of(database) == wanted
    assert sum(told) == len(wanted["told"])


async def take(js: JetStream, most: int) -> list[InMessage]:
    return await js.pull(topology.EVENTS, POOL).fetch(most, 1.0)


async def test_a_crash_after_the_commit_and_before_the_acknowledgement(
    queue: JetStream, database: Any, fresh_database_url: str
) -> None:
    events = await stories(database)
    wanted = await in_the_test(database, fresh_database_url, events)
    await published(queue, database)
    pushes = Pushes()
    await pushes.listen(queue)
    pool = effects_pool(queue, database)
    for _ in range(2):  # the first time nobody acknowledges
        seen = 0
        while seen < len(events):
            batch = await take(queue, 17)
            seen += len(batch)
            assert len((await pool.process(batch, 0.0)).finished) == len(batch)
            held = batch if _ == 0 else []
            for message in held:
                await message.nak(1.0)
        await asyncio.sleep(1.1)
    assert await effects_of(database) == wanted
    await queue.round_trip()
    assert len(pushes.told) == len(wanted["told"])


async def test_an_event_that_has_waited_for_its_next_attempt_is_the_same_event(
    queue: JetStream, database: Any, fresh_database_url: str
) -> None:
    """As the relay brings it back: another subject, another message id, the first ones in headers."""
    events = await stories(database, 4)
    await apply(database, events[::2])
    wanted_after = await effects_of(database)
    for event in events[::2]:
        headers = {
            topology.MESSAGE_ID_HEADER: event.event_id,
            topology.SUBJECT_HEADER: event.subject,
            topology.ATTEMPT_HEADER: "2",
        }
        await queue.publish(
            topology.retry_subject(POOL),
            event.payload.encode(),
            message_id=f"{event.event_id}:2",
            headers=headers,
        )
    batch = await take(queue, 100)
    assert len(batch) == len(events[::2])
    result = await effects_pool(queue, database).process(batch, 0.0)
    assert len(result.finished) == len(batch)
    assert await effects_of(database) == wanted_after
    (late, *_) = events[1::2]
    headers = {topology.SUBJECT_HEADER: late.subject, topology.ATTEMPT_HEADER: "3"}
    await queue.publish(topology.retry_subject(POOL), late.payload.encode(), headers=headers)
    await effects_pool(queue, database).process(await take(queue, 1), 0.0)
    rows = await database.fetch("select attempts from audit_effects where event_id = $1", late.event_id)
    assert {row["attempts"] for row in rows} == {3}


async def test_killed_workers_and_servers_change_nothing(
    queue: JetStream,
    database: Any,
    nats_url: str,
    fresh_database_url: str,
    nats_server: NatsServer,
    postgres_server: PostgresServer,
) -> None:
    """Two workers at a rate that leaves them in the middle; NATS and PostgreSQL are killed outright meanwhile."""
    events = await stories(database, 30)
    wanted = await in_the_test(database, fresh_database_url, events)
    await published(queue, database)
    await set_pace(queue, POOL, limit_per_second=60)
    pushes = Pushes()
    await pushes.listen(queue)
    async with worker(nats_url, fresh_database_url), worker(nats_url, fresh_database_url):
        await until(lambda: some_effects(database))
        await nats_server.restart()
        await postgres_server.kill()
        await postgres_server.start()
        await until(lambda: queue.connected)
        await set_pace(queue, POOL, limit_per_second=5_000)
        await until(lambda: finished(queue), 40)
    async with own_connections(nats_url, fresh_database_url) as (_, pool):
        assert await effects_of(pool) == wanted
        assert await pool.fetchval("select count(*) from dead_letters") == 0
    ids = [push.notification_id for _, push in pushes.told]
    assert len(ids) == len(set(ids)) <= len(wanted["told"]), "at most once"


async def some_effects(database: Any) -> bool:
    return await database.fetchval("select exists (select from effects)")  # type: ignore[no-any-return]


async def test_effects_need_no_push(
    queue: JetStream, database: Any, fresh_database_url: str, nats_server: NatsServer
) -> None:
    events = await stories(database, 4)
    wanted = await in_the_test(database, fresh_database_url, events)
    await published(queue, database)
    batch = await take(queue, 100)
    await nats_server.kill()
    await until(lambda: not queue.connected)
    result = await effects_pool(queue, database).process(batch, 0.0)
    assert len(result.finished) == len(batch)
    assert await effects_of(database) == wanted


# -- exact sums --------------------------------------------------------------------------------------------


async def test_two_hundred_reviews_of_one_provider_at_once(
    queue: JetStream, database: Any, nats_url: str, fresh_database_url: str
) -> None:
    chance = random.Random(9)
    await add_provider(database, "p-1")
    ratings = [chance.randint(1, 5) for _ in range(200)]
    orders = [await new_order(database, f"c{n}", at=None) for n in range(200)]
    for order in orders:
        await act(database, order, "accept", "start", "complete")

    await asyncio.gather(
        *(
            review(database, order, rating, f"c{n}")
            for n, (order, rating) in enumerate(zip(orders, ratings, strict=True))
        )
    )
    async with worker(nats_url, fresh_database_url), worker(nats_url, fresh_database_url):
        await published(queue, database)
        await until(lambda: finished(queue))
    provider = await database.fetchrow("select * from providers where provider_id = 'p-1'")
    assert (provider["rating_count"], provider["rating_sum"]) == (200, sum(ratings))
    assert provider["completed_orders"] == 200
    tickets = await database.fetchval("select count(*) from tickets")
    assert tickets == sum(rating <= 2 for rating in ratings)


async def test_the_figures_are_what_orders_payments_and_reviews_add_up_to(database: Any) -> None:
    events = await stories(database, 60, seed=5)
    random.Random(5).shuffle(events)
    for first in range(0, len(events), 11):
        await apply(database, events[first : first + 11])
    told = await database.fetchrow(
        "select sum(orders) as orders, sum(completed) as completed, sum(cancellations) as cancellations,"
        " sum(revenue_cents) as revenue, sum(refunds_cents) as refunds, sum(ratings) as ratings,"
        " sum(rating_sum) as rating_sum from daily_figures where tenant = $1",
        TENANT,
    )
    recomputed = await database.fetchrow(
        "select (select count(*) from orders where status <> 'rejected') as orders,"
        " (select count(*) from orders where completed_at is not null) as completed,"
        " (select count(*) from orders where cancelled_at is not null) as cancellations,"
        " (select sum(amount_cents) from payments where kind = 'payment') as revenue,"
        " (select sum(amount_cents) from payments where kind = 'refund') as refunds,"
        " (select count(*) from reviews) as ratings, (select sum(rating) from reviews) as rating_sum"
    )
    assert tuple(told) == tuple(recomputed)
    assert all(told.values())
    statistics = await database.fetch(
        "select provider_id, rating_count, rating_sum, completed_orders from providers order by 1"
    )
    again = await database.fetch(
        "select p.provider_id, (select count(*) from reviews r where r.provider_id = p.provider_id),"
        " (select coalesce(sum(rating), 0) from reviews r where r.provider_id = p.provider_id),"
        " (select count(*) from orders o where o.provider_id = p.provider_id and o.status = 'completed')"
        " from providers p order by 1"
    )
    assert [tuple(row) for row in statistics] == [tuple(row) for row in again]
    history = await database.fetch(
        "select h.order_id, max(h.version), o.version from order_history h join orders o using (order_id)"
        " group by 1, 3"
    )
    assert len(history) == 60
    assert all(newest == version for _, newest, version in history)


# -- what is no event --------------------------------------------------------------------------------------

ORDER = {
    "order_id": "01234567-89ab-8def-8123-456789abcdef", "tenant": "t1", "customer_id": "c", "version": 1,
    "status": "created", "at": "2026-01-01T00:00:00Z",
}  # fmt: skip
POISON = {
    "not-json": ("order.created", b"{"),
    "not-utf-8": ("order.created", msgspec.json.encode(ORDER)[:-1] + b',"note":"\xff"}'),
    "nul": ("order.created", msgspec.json.encode({**ORDER, "note": "\0"})),
    "no-tenant": ("order.created", msgspec.json.encode({**ORDER, "tenant": ""})),
    "version-zero": ("order.created", msgspec.json.encode({**ORDER, "version": 0})),
    "no-status": ("order.paid", msgspec.json.encode({**ORDER, "status": "unheard-of"})),
    "no-zone": ("order.paid", msgspec.json.encode({**ORDER, "at": "2026-01-01T00:00:00"})),
    "off-the-globe": ("order.created", msgspec.json.encode({**ORDER, "latitude": 91})),
    "a-review-of-an-order": ("review.created", msgspec.json.encode(ORDER)),
    "no-subject": (f"retry.{POOL}", msgspec.json.encode(ORDER)),
    "too-long-for-an-index": (
        "order.created",
        msgspec.json.encode({**ORDER, "customer_id": random.Random(1).randbytes(9_000).hex()}),
    ),
}


async def test_what_is_no_event_is_set_aside_and_hinders_nobody(
    queue: JetStream, database: Any, nats_url: str, fresh_database_url: str
) -> None:
    events = await stories(database, 4)
    wanted = await in_the_test(database, fresh_database_url, events)
    for name, (subject, payload) in POISON.items():
        await queue.publish(subject, payload, message_id=name)
    async with (
        relay(queue, database, ["outbox", "timers"]),
        worker(nats_url, fresh_database_url),
    ):
        await until(lambda: owes_nothing(database))
        await until(lambda: all_dead(database), 30)
        await until(lambda: finished(queue))
    assert await effects_of(database) == wanted
    dead = await database.fetch("select message_id, pool, attempts from dead_letters")
    assert {row["message_id"] for row in dead} == POISON.keys()
    assert {row["pool"] for row in dead} == {POOL}


async def all_dead(database: Any) -> bool:
    return await database.fetchval("select count(*) from dead_letters") == len(POISON)  # type: ignore[no-any-return]
