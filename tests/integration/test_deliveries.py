"""The sender on a real PostgreSQL: every delivery is sent until it has arrived or is a dead letter, whoever dies."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from aiohttp import web
from receivers import MASTER_KEY, WebhookReceiver, everything_is_here, mail_receiver, webhook_receiver
from support import new_name, until

from peakclip import store
from peakclip.local.postgres import PostgresServer
from peakclip.service import Service
from peakclip_worker.channels.addresses import MailServer
from peakclip_worker.channels.email import EmailChannel
from peakclip_worker.channels.names import Names
from peakclip_worker.channels.port import Channel, Delivery, DeliveryFailedError, DeliveryRefusedError
from peakclip_worker.channels.webhook import WebhookChannel
from peakclip_worker.deliveries import LEASE_SECONDS, Sender, drop, redrive

pytestmark = pytest.mark.integration

AT_ONCE = (0.0, 0.0)  # backoff: a second and a third attempt without a wait


async def insert(database: Any, address: str, channel: str = "webhook", **changes: Any) -> str:
    values = {
        "delivery_id": str(uuid.uuid4()), "notification_id": int(new_name("")), "tenant": "t1", "user_id": "ada",
        "channel": channel, "address": address, "kind": "order.accepted", "title": "Accepted", "body": "Your order.",
        "data": '{"order_id": "o1"}', **changes,
    }  # fmt: skip
    names = ", ".join(values)
    places = ", ".join(f"${n + 1}" for n in range(len(values)))
    await database.execute(f"insert into deliveries ({names}) values ({places})", *values.values())
    return str(values["delivery_id"])


async def row_of(database: Any, delivery_id: str) -> Any:
    return await database.fetchrow("select * from deliveries where delivery_id = $1", delivery_id)


async def letters(database: Any) -> list[Any]:
    return list(await database.fetch("select * from dead_letters order by message_id"))


async def in_state(database: Any, state: str, count: int) -> bool:
    return bool(await database.fetchval("select count(*) from deliveries where state = $1", state) == count)


async def leases_run_out(database: Any) -> None:
    await database.execute("update deliveries set leased_until = now() where leased_until is not null")


@contextlib.asynccontextmanager
async def running(database: Any, channels: Mapping[str, Channel], **options: Any) -> AsyncIterator[Sender]:
    service = Service()
    sender = Sender(database, channels, **{"poll_seconds": 0.05, "backoff_seconds": AT_ONCE, **options})
    task = asyncio.create_task(sender.run(service))
    try:
        yield sender
    finally:
        service.stopping.set()
        await asyncio.wait_for(task, 15)


@pytest.fixture
async def webhooks() -> AsyncIterator[dict[str, Channel]]:
    """Every name leads to this machine."""
    async with WebhookChannel(
        [MASTER_KEY], allow_private=True, total_seconds=3, resolver=Names(everything_is_here)
    ) as channel:
        yield {"webhook": channel}


@pytest.fixture
async def there() -> AsyncIterator[WebhookReceiver]:
    async with webhook_receiver() as receiver:
        yield receiver


def at_host(there: WebhookReceiver, name: str) -> str:
    return there.url.replace("127.0.0.1", name)


# -- what becomes of a delivery ----------------------------------------------------------------------------


async def test_webhook_and_mail_go_out_once_each(
    database: Any, webhooks: dict[str, Channel], there: WebhookReceiver
) -> None:
    async with mail_receiver() as mail:
        server = MailServer("127.0.0.1", mail.port, False)
        channels = {**webhooks, "email": EmailChannel(server, "orders@shop.example")}
        hook = await insert(database, there.url, title="✓")
        letter = await insert(database, "ada@mail.example", "email", notification_id=4711)
        async with running(database, channels):
            await until(lambda: in_state(database, "sent", 2))
        assert [one["Message-ID"] for one in mail.mails] == [f"<{letter}@shop.example>"]
    (call,) = there.calls
    assert (call.key, call.verified, call.event["data"]["data"]) == (hook, True, {"order_id": "o1"})
    row = await row_of(database, hook)
    assert (row["attempts"], row["leased_until"], row["last_error"]) == (1, None, None)
    assert row["sent_at"] >= row["created_at"]
    assert await letters(database) == []


async def test_what_fails_is_tried_again_until_it_arrives(
    database: Any, webhooks: dict[str, Channel], there: WebhookReceiver
) -> None:
    there.answers = [500, 503]
    delivery = await insert(database, there.url)
    async with running(database, webhooks):
        await until(lambda: in_state(database, "sent", 1))
    assert [call.key for call in there.calls] == [delivery] * 3
    assert (await row_of(database, delivery))["attempts"] == 3
    assert await letters(database) == []


async def test_poison_ends_as_a_dead_letter_after_three_attempts_and_delays_nobody(
    database: Any, webhooks: dict[str, Channel], there: WebhookReceiver
) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=500 if request.path == "/poison" else 200)

    there.default = answer
    poison = await insert(database, f"{there.url}/poison", title="never arrives", data='{"n": 1}')
    others = [await insert(database, there.url) for _ in range(20)]
    async with running(database, webhooks):
        await until(lambda: in_state(database, "sent", 20))
        await until(lambda: in_state(database, "dead", 1))
    assert [call.key for call in there.calls if call.path == "/poison"] == [poison] * 3
    assert sorted(call.key for call in there.calls if call.path == "/") == sorted(others)
    (letter,) = await letters(database)
    assert letter["message_id"] == f"delivery:{poison}"
    assert (letter["pool"], letter["subject"], letter["attempts"]) == ("effects", "delivery.webhook", 3)
    assert letter["cause"] == (await row_of(database, poison))["last_error"] == "answered 500"
    payload = msgspec.json.decode(letter["payload"], type=Delivery)
    assert (payload.delivery_id, payload.title, bytes(payload.data)) == (poison, "never arrives", b'{"n": 1}')
    audited = await database.fetchrow("select * from audit_dead_letters")
    assert (audited["message_id"], audited["attempts"]) == (letter["message_id"], 3)


async def test_a_refusal_is_dead_at_once(
    database: Any, webhooks: dict[str, Channel], there: WebhookReceiver
) -> None:
    there.default = 410
    delivery = await insert(database, there.url)
    async with running(database, webhooks):
        await until(lambda: in_state(database, "dead", 1))
    assert len(there.calls) == 1
    (letter,) = await letters(database)
    assert (letter["attempts"], letter["cause"]) == (1, "answered 410")
    assert (await row_of(database, delivery))["state"] == "dead"


async def test_the_next_attempt_waits_as_long_as_the_far_side_asks(
    database: Any, webhooks: dict[str, Channel], there: WebhookReceiver
) -> None:
    async def busy(_: web.Request) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "17"})

    there.answers = [busy]
    before = await database.fetchval("select clock_timestamp()")
    delivery = await insert(database, there.url)
    async with running(database, webhooks):
        row = await until(lambda: failed_once(database, delivery))
        await insert(database, there.url)
        await until(lambda: in_state(database, "sent", 1))  # so it has been looked for meanwhile
    after = await database.fetchval("select clock_timestamp()")
    asked = timedelta(seconds=17)
    assert before + asked <= row["next_attempt_at"] <= after + asked, (
        "by the database's clock, whatever ours says"
    )
    assert (row["state"], row["attempts"], row["last_error"]) == ("pending", 1, "answered 429")
    assert await row_of(database, delivery) == row


async def failed_once(database: Any, delivery_id: str) -> Any:
    row = await row_of(database, delivery_id)
    return row if row["last_error"] else None


class Raising:
    """A channel that ends every attempt in `failure`."""

    def __init__(self, failure: BaseException) -> None:
        self.failure = failure
        self.attempts: list[int] = []

    async def send(self, delivery: Delivery) -> None:
        self.attempts.append(delivery.attempt)
        raise self.failure


async def test_what_an_adapter_did_not_foresee_ends_as_a_dead_letter_too(database: Any) -> None:
    await insert(database, "http://hooks.example")
    channel = Raising(LookupError("a bug"))
    async with running(database, {"webhook": channel}):
        await until(lambda: in_state(database, "dead", 1))
    assert channel.attempts == [1, 2, 3]
    assert (await letters(database))[0]["cause"] == "LookupError('a bug')"


async def test_whatever_a_far_side_says_can_be_stored(database: Any) -> None:
    await insert(database, "http://hooks.example", title="a\u2028b\x01")
    async with running(database, {"webhook": Raising(DeliveryRefusedError("no\0 \udcff\r\n" + "x" * 9_000))}):
        await until(lambda: in_state(database, "dead", 1))
    assert (await letters(database))[0]["cause"].startswith("no? ???xxx")


async def test_whatever_is_in_the_data_goes_out_as_it_is(
    database: Any, webhooks: dict[str, Channel], there: WebhookReceiver
) -> None:
    """A number that no 64 bits hold; and it must be possible to write it into a dead letter."""
    there.default = 410
    await insert(database, there.url, data='{"n": 1e40, "s": "\\u2028✓"}')
    async with running(database, webhooks):
        await until(lambda: in_state(database, "dead", 1))
    assert there.calls[0].event["data"]["data"] == {"n": 10**40, "s": "\u2028✓"}
    assert str(10**40).encode() in (await letters(database))[0]["payload"]


async def test_a_channel_that_is_off_leaves_its_deliveries_waiting(
    database: Any, webhooks: dict[str, Channel], there: WebhookReceiver
) -> None:
    letter = await insert(database, "ada@mail.example", "email")
    async with running(database, {}):
        await asyncio.sleep(0.2)
    await insert(database, there.url)
    async with running(database, webhooks):
        await until(lambda: in_state(database, "sent", 1))
    row = await row_of(database, letter)
    assert (row["state"], row["attempts"]) == ("pending", 0)


# -- who dies in between -----------------------------------------------------------------------------------


class DiesAfterSending:
    """Sends, and is never heard of again: as if the process had been killed before it could tell the database."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.sent = asyncio.Event()

    async def send(self, delivery: Delivery) -> None:
        await self._channel.send(delivery)
        self.sent.set()
        await asyncio.sleep(60)


async def killed_after_sending(database: Any, webhooks: dict[str, Channel]) -> None:
    dying = DiesAfterSending(webhooks["webhook"])
    task = asyncio.create_task(Sender(database, {"webhook": dying}, poll_seconds=0.05).run(Service()))
    await asyncio.wait_for(dying.sent.wait(), 10)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_crash_between_sending_and_marking_sends_again_under_the_same_key(
    database: Any, webhooks: dict[str, Channel], there: WebhookReceiver
) -> None:
    delivery = await insert(database, there.url)
    await killed_after_sending(database, webhooks)
    row = await row_of(database, delivery)
    assert (row["state"], row["attempts"]) == ("pending", 1)
    assert row["leased_until"] > datetime.now(UTC) + timedelta(seconds=LEASE_SECONDS / 2)
    async with running(database, webhooks):
        await asyncio.sleep(0.3)
        assert len(there.calls) == 1  # the lease holds
        await leases_run_out(database)
        await until(lambda: in_state(database, "sent", 1))
    assert [call.key for call in there.calls] == [delivery, delivery]
    assert there.calls[0].event == there.calls[1].event
    assert list(there.effects) == [delivery]


async def test_three_workers_that_die_are_three_attempts(
    database: Any, webhooks: dict[str, Channel], there: WebhookReceiver
) -> None:
    """A delivery that kills whoever sends it must come to an end as well."""
    delivery = await insert(database, there.url)
    for _ in range(3):
        await killed_after_sending(database, webhooks)
        await leases_run_out(database)
    async with running(database, webhooks):
        await until(lambda: in_state(database, "dead", 1))
    assert [call.key for call in there.calls] == [delivery] * 3
    assert "before it was known" in (await letters(database))[0]["cause"]


async def settled(database: Any, delivery_id: str, attempt: int, state: str) -> Any:
    await database.execute(
        store.query("settle_deliveries"), [delivery_id], [attempt], [state], [None], ["why"], [b"{}"]
    )
    return await row_of(database, delivery_id)


async def claim(database: Any, most: int = 10, per_lane: int = 10, after: str = "") -> list[Any]:
    return list(
        await database.fetch(
            store.query("claim_deliveries"), ["webhook", "email"], [], [], per_lane, after, most, 30.0
        )
    )


async def test_a_worker_that_was_given_up_changes_nothing_unless_the_delivery_has_arrived(
    database: Any,
) -> None:
    late, arrived = [await insert(database, "http://hooks.example") for _ in range(2)]
    for _ in range(2):
        assert len(await claim(database)) == 2
        await leases_run_out(database)
    for state in ("pending", "dead"):
        row = await settled(database, late, 1, state)
        assert (row["state"], row["last_error"]) == ("pending", None)
        assert row["leased_until"] is not None
    assert await letters(database) == []
    assert (await settled(database, arrived, 1, "sent"))["state"] == "sent"
    assert (await settled(database, arrived, 2, "dead"))["state"] == "sent"
    assert await letters(database) == []


async def test_being_told_twice_changes_nothing(database: Any) -> None:
    delivery = await insert(database, "http://hooks.example")
    await claim(database)
    first = await settled(database, delivery, 1, "dead")
    (letter,) = await letters(database)
    assert await settled(database, delivery, 1, "dead") == first
    assert await letters(database) == [letter]


async def test_two_senders_side_by_side_send_each_once(
    database: Any, webhooks: dict[str, Channel], there: WebhookReceiver
) -> None:
    hosts = [at_host(there, f"h{n}.example") for n in range(20)]
    ids = [await insert(database, hosts[n % 20]) for n in range(300)]
    async with running(database, webhooks), running(database, webhooks):
        await until(lambda: in_state(database, "sent", 300), 30)
    assert sorted(call.key for call in there.calls) == sorted(ids)


async def test_restarts_of_the_database_lose_nothing_and_double_nothing(
    fresh_database_url: str,
    webhooks: dict[str, Channel],
    there: WebhookReceiver,
    postgres_server: PostgresServer,
) -> None:
    pool = await store.connect(fresh_database_url, max_size=2)
    try:
        ids = [await insert(pool, at_host(there, f"h{n % 10}.example")) for n in range(300)]
        async with running(pool, webhooks) as sender:
            await until(lambda: len(there.calls) > 20, pause=0.001)
            await postgres_server.kill()
            await asyncio.sleep(0.3)  # what is under way ends meanwhile, and waits to be written
            assert len(there.calls) < 300
            await postgres_server.start()
            await until(lambda: all_sent_at_last(pool, 300), 40)
            assert sender._verdicts == []
        assert sorted(there.effects) == sorted(ids)
        # A claim whose answer was lost leaves a lease; but what was sent was written as soon as there was somebody.
        assert len(there.calls) == 300
    finally:
        pool.terminate()


async def all_sent_at_last(database: Any, count: int) -> bool:
    try:
        await leases_of_nobody_run_out(database)
        return await in_state(database, "sent", count)
    except store.DATABASE_AWAY:
        return False


async def leases_of_nobody_run_out(database: Any) -> None:
    """Those of a claim whose answer never came; the test does not wait half a minute for them."""
    await database.execute(
        "update deliveries set leased_until = now() where leased_until < now() + $1::interval",
        timedelta(seconds=LEASE_SECONDS - 6),
    )


# -- who waits for whom ------------------------------------------------------------------------------------


async def test_a_host_that_hangs_holds_up_nobody_else(
    database: Any, webhooks: dict[str, Channel], there: WebhookReceiver
) -> None:
    async def hang(_: web.Request) -> web.Response:
        await asyncio.sleep(60)
        raise AssertionError

    async with webhook_receiver(default=hang) as hanging:
        for n in range(100):  # more than there are places, and written in two ways
            await insert(database, f"{at_host(hanging, ('hangs.example', 'HANGS.example')[n % 2])}/{n}")
        async with running(database, webhooks, at_once=8) as sender:
            await until(lambda: len(hanging.calls) == 4)
            others = [await insert(database, at_host(there, f"h{n % 5}.example")) for n in range(50)]
            began = time.monotonic()
            sender.wake.set()
            await until(lambda: in_state(database, "sent", 50))
            assert time.monotonic() - began < 2
            assert await database.fetchval("select count(*) from deliveries where leased_until > now()") == 4
        assert sorted(call.key for call in there.calls) == sorted(others)


async def test_every_lane_has_its_turn(database: Any) -> None:
    hosts = [f"h{n}" for n in range(9)]
    for host in hosts:
        for _ in range(10):
            await insert(database, f"http://{host}/")
    seen: list[str] = []
    after = ""
    while len(seen) < 45:
        rows = await claim(database, most=4, per_lane=1, after=after)
        seen += sorted(row["lane"] for row in rows)
        after = max(row["lane"] for row in rows) if len(rows) == 4 else ""
    assert seen == [f"webhook:{host}" for host in hosts] * 5


async def test_a_lane_is_a_host(database: Any) -> None:
    addresses = {
        "http://Hooks.example/in": "webhook:hooks.example",
        "https://hooks.example:8443?x": "webhook:hooks.example",
        "http://user:pass@hooks.example:1/": "webhook:hooks.example",
        "http://hooks.example#/@other.example": "webhook:hooks.example",
        "https://[2001:db8::1]:80/x": "webhook:[2001:db8::1]",
        "nonsense": "webhook:",
        "": "webhook:",
        "http://" + "é" * 3_000: "webhook:" + "é" * 255,
    }
    for address, lane in addresses.items():
        delivery = await insert(database, address)
        assert (await row_of(database, delivery))["lane"] == lane
    delivery = await insert(database, "ada@mail.example", "email")
    assert (await row_of(database, delivery))["lane"] == "email"


async def test_what_was_committed_is_sent_at_once_if_the_sender_is_told(
    database: Any, webhooks: dict[str, Channel], there: WebhookReceiver
) -> None:
    async with running(database, webhooks, poll_seconds=60) as sender:
        await asyncio.sleep(0.2)
        await insert(database, there.url)
        sender.wake.set()
        await until(lambda: in_state(database, "sent", 1), 5)


async def test_a_free_place_is_taken_at_once(
    database: Any, webhooks: dict[str, Channel], there: WebhookReceiver
) -> None:
    """However long it is until the next look: in one lane, and over all lanes."""
    for n in range(30):
        await insert(database, there.url if n < 15 else at_host(there, f"h{n}.example"))
    async with running(database, webhooks, poll_seconds=60, at_once=5):
        await until(lambda: in_state(database, "sent", 30), 10)


async def test_on_sigterm_what_is_under_way_is_finished_and_nothing_else_begun(
    database: Any, webhooks: dict[str, Channel], there: WebhookReceiver
) -> None:
    arrived, answer = asyncio.Event(), asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        arrived.set()
        await answer.wait()
        return web.Response()

    there.default = slow
    service = Service()
    task = asyncio.create_task(Sender(database, webhooks, per_lane=1, poll_seconds=0.05).run(service))
    first, second = [
        await insert(database, there.url, next_attempt_at=datetime(2026, 1, n, tzinfo=UTC)) for n in (1, 2)
    ]
    await asyncio.wait_for(arrived.wait(), 10)
    service.stopping.set()
    await asyncio.sleep(0.2)
    assert not task.done()
    answer.set()
    await asyncio.wait_for(task, 5)
    assert (await row_of(database, first))["state"] == "sent"
    row = await row_of(database, second)
    assert (row["state"], row["attempts"], row["leased_until"]) == ("pending", 0, None)
    assert len(there.calls) == 1


# -- the dead ----------------------------------------------------------------------------------------------


async def test_a_dead_delivery_can_be_sent_again(
    database: Any, webhooks: dict[str, Channel], there: WebhookReceiver
) -> None:
    there.answers = [500, 500, 500, 500]
    delivery = await insert(database, there.url)
    async with running(database, webhooks):
        await until(lambda: in_state(database, "dead", 1))
        assert await redrive(database, delivery)
        assert await letters(database) == []
        await until(lambda: in_state(database, "sent", 1))
    assert len(there.calls) == 5  # its attempts are counted anew
    assert list(there.effects) == [delivery]
    assert not await redrive(database, delivery)
    assert not await redrive(database, str(uuid.uuid4()))


async def test_a_dead_delivery_can_be_dropped_and_taken_back(database: Any) -> None:
    delivery = await insert(database, "http://hooks.example")
    assert not await drop(database, delivery)
    async with running(database, {"webhook": Raising(DeliveryFailedError("answered 500"))}):
        await until(lambda: in_state(database, "dead", 1))
    assert await drop(database, delivery)
    assert await letters(database) == []
    assert (await row_of(database, delivery))["state"] == "dropped"
    assert await claim(database) == []
    assert await redrive(database, delivery)
    assert len(await claim(database)) == 1


async def test_one_notification_has_one_delivery_by_each_channel(database: Any) -> None:
    await insert(database, "http://hooks.example", notification_id=1)
    await insert(database, "ada@mail.example", "email", notification_id=1)
    with pytest.raises(Exception, match="notification_id"):
        await insert(database, "http://elsewhere.example", notification_id=1)
