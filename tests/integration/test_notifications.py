"""Notifications over HTTP: lists and streams, which lose nothing and say nothing twice, whatever breaks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import openapi
import pytest
from business import BERLIN, act, add_provider, new_order, review, work
from sse import Events
from support import (
    ADMIN_KEY,
    CUSTOMER_KEY,
    FOREIGN_KEY,
    NOW,
    PROVIDER_KEY,
    SERVICE_KEY,
    TENANT,
    Api,
    api_process,
    store_keys,
    until,
)

from peakclip.credentials import store_key
from peakclip.jetstream import JetStream
from peakclip.local.nats import NatsServer
from peakclip.local.postgres import PostgresServer
from peakclip_api import inboxes, keys, live
from peakclip_api.paging import write_cursor

pytestmark = pytest.mark.integration

PATH = "/v1/notifications/stream"
OWN = "own-1"  # the customer of CUSTOMER_KEY


@pytest.fixture
async def api(js: JetStream, database: Any, nats_url: str, fresh_database_url: str) -> AsyncIterator[Api]:
    await store_keys(database)
    async with api_process(nats_url, fresh_database_url) as process:
        yield process


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_SECONDS", 0.1)


@contextlib.asynccontextmanager
async def following(
    api: Api, *, key: str = CUSTOMER_KEY, after: int | str | None = None, path: str = PATH, **headers: str
) -> AsyncIterator[Events]:
    sent = {"Authorization": f"Bearer {key}", **headers}
    if after is not None:
        sent["Last-Event-ID"] = str(after)
    async with api.client.get(path, headers=sent) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        yield await Events(response).begun()


async def tell(js: JetStream, database: Any, number: int = 1, customer: str = OWN) -> list[str]:
    """So many new notifications for a customer; their ids, oldest first."""
    for _ in range(number):
        await new_order(database, customer, at=None)
    await work(js, database)
    rows = await database.fetch(
        "select notification_id from notifications where user_id = $1 order by 1 desc limit $2",
        customer,
        number,
    )
    return [str(row["notification_id"]) for row in rows[::-1]]


async def ids(events: Events, number: int) -> list[str]:
    return [str(one) for one, _, _ in await events.events(number)]


# -- lists -------------------------------------------------------------------------------------------------


async def test_a_list_is_ones_own_newest_first_in_pages(api: Api, js: JetStream, database: Any) -> None:
    told = await tell(js, database, 5)
    await tell(js, database, 2, "somebody-else")
    found: list[str] = []
    cursor = ""
    pages = 0
    while cursor is not None:
        path = f"/v1/notifications?limit=2{f'&cursor={cursor}' if cursor else ''}"
        answer = await api.call("GET", path, key=CUSTOMER_KEY)
        assert answer.status == 200
        found += [item["notification_id"] for item in answer.body["items"]]
        cursor = answer.body["next_cursor"]
        pages += 1
    assert found == told[::-1]
    assert pages == 3
    newest = (await api.call("GET", "/v1/notifications?limit=1", key=CUSTOMER_KEY)).body["items"][0]
    assert newest["kind"] == "order.created"
    assert newest["text"] == "We have your order. A provider can accept it now."
    assert newest["review_id"] is None


async def test_who_sees_whose(api: Api, js: JetStream, database: Any) -> None:
    """A provider, a customer of the same id, another tenant's customer: each its own."""
    await add_provider(database, "p-1")
    await store_key(database, "pk_same", TENANT, "p-1", "customer")
    order = await new_order(database)
    await act(database, order, "accept", "start", "complete")
    await review(database, order, 5)
    await new_order(database, "own-1", tenant="t2", at=None)
    await work(js, database)

    async def kinds(key: str, **headers: str) -> list[str]:
        answer = await api.call("GET", "/v1/notifications", key=key, headers=headers)
        assert answer.status == 200, answer
        return [item["kind"] for item in answer.body["items"]]

    assert await kinds(PROVIDER_KEY) == ["review.created", "order.created"]
    own = ["order.completed", "order.started", "order.accepted", "order.created"]
    assert await kinds(CUSTOMER_KEY) == own
    assert await kinds(SERVICE_KEY, **{"Peakclip-Customer": "own-1"}) == own
    assert await kinds("pk_same") == []
    assert await kinds(FOREIGN_KEY, **{"Peakclip-Customer": "own-1"}) == ["order.created"]
    assert await kinds(FOREIGN_KEY, **{"Peakclip-Customer": "p-1"}) == []
    for path in ("/v1/notifications", PATH):
        for key, status, kind in [
            (SERVICE_KEY, 400, "customer-required"),
            (ADMIN_KEY, 403, "forbidden"),
            ("pk_unknown", 401, "unauthorized"),
        ]:
            answer = await api.call("GET", path, key=key)
            assert (answer.status, answer.kind) == (status, kind)


@pytest.mark.parametrize(
    "wrong",
    [
        "limit=0",
        "limit=x",
        "cursor=abc",
        f"cursor={write_cursor(NOW, 'of-another-list')}",
        f"cursor={write_cursor(NOW, str(2**63))}",
    ],
)
async def test_a_wrong_page_is_refused(api: Api, wrong: str) -> None:
    answer = await api.call("GET", f"/v1/notifications?{wrong}", key=CUSTOMER_KEY)
    assert (answer.status, answer.kind) == (422, "invalid-request")
    assert answer.body["errors"][0]["field"] == wrong.partition("=")[0]


# -- streams -----------------------------------------------------------------------------------------------


async def test_a_stream_is_what_comes_from_now_on(api: Api, js: JetStream, database: Any) -> None:
    await tell(js, database, 3)
    async with following(api) as events:
        assert await events.silent()
        (told,) = await tell(js, database)
        ((number, name, data),) = await events.events(1)
        assert (str(number), name) == (told, "notification")
        listed = (await api.call("GET", "/v1/notifications?limit=1", key=CUSTOMER_KEY)).body["items"][0]
        assert data == listed
        schema = {"$ref": "#/components/schemas/Notification"}
        openapi._check_instance(data, schema, "a notification", closed=True)


async def test_a_reader_comes_back_where_it_was(
    api: Api, js: JetStream, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peakclip_api.routes.notifications.PAGE", 3)
    told = await tell(js, database, 10)
    for after in (0, told[0], told[4]):
        async with following(api, after=after) as events:
            rest = told[told.index(after) + 1 :] if after else told
            assert await ids(events, len(rest)) == rest
            assert await events.silent()
    async with following(api, after=told[-1]) as events:
        assert await events.silent()
        told = await tell(js, database)
        assert await ids(events, 1) == told
    for nonsense in ("x", "-1", "", "9" * 40, "٣"):
        async with following(api, after=nonsense) as events:
            assert await events.silent(0.1)


async def test_nobody_hears_of_anybody_else(api: Api, js: JetStream, database: Any) -> None:
    """The subject of a push names no tenant and not who is a provider."""
    await store_key(database, "pk_same", TENANT, "p-1", "customer")
    await add_provider(database, "p-1")
    foreign = {"Peakclip-Customer": "own-1"}
    async with (
        following(api, key="pk_same") as same_id,
        following(api, key=FOREIGN_KEY, **foreign) as other_tenant,
        following(api, key=PROVIDER_KEY) as provider,
        following(api) as customer,
    ):
        await new_order(database, OWN, at=BERLIN)
        await work(js, database)
        assert len(await ids(provider, 1)) == len(await ids(customer, 1)) == 1
        assert await same_id.silent()
        assert await other_tenant.silent(0.1)
        await tell(js, database, 1, "p-1")
        assert len(await ids(same_id, 1)) == 1
        assert await provider.silent()


@pytest.mark.parametrize("user", ["a.b", "a b", "*", ">", "ü€", "%2E", "~", "a/b?c=d", "x" * 128])
async def test_a_user_of_any_name_gets_pushes(api: Api, js: JetStream, database: Any, user: str) -> None:
    await store_key(database, "pk_odd", TENANT, user, "customer")
    async with following(api, key="pk_odd") as events:
        told = await tell(js, database, 1, user)
        assert await ids(events, 1) == told


async def test_streams_of_one_user_share_a_subscription(
    quick: None, api: Api, js: JetStream, database: Any
) -> None:
    """And when the heartbeat has noticed that they are gone, so is it."""
    hub = api.app[keys.INBOXES]
    async with following(api) as one, following(api) as two:
        assert hub.subscriptions == 1
        told = await tell(js, database, 2)
        assert await ids(one, 2) == await ids(two, 2) == told
    await until(lambda: hub.subscriptions == 0)
    assert api.app[keys.READERS].count == 0


async def test_silence_has_a_heartbeat(quick: None, api: Api) -> None:
    async with following(api) as events:
        assert await events.next() == "ping"


async def test_a_lost_push_is_found_in_the_table(
    quick: None, api: Api, js: JetStream, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether another push shows the gap, or nothing at all comes."""
    async with following(api) as events:
        with deaf(monkeypatch):
            first = await tell(js, database, 2)
            assert await events.next() == "ping"
        told = await tell(js, database)
        async with asyncio.timeout(live.LOOK_SECONDS / 2):
            assert await ids(events, 3) == first + told
    monkeypatch.setattr(live.Reader.wait, "__defaults__", (0.3,))
    async with following(api) as events:
        with deaf(monkeypatch):
            told = await tell(js, database, 2)
            assert await ids(events, 2) == told


@contextlib.contextmanager
def deaf(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(inboxes.InboxReader, "push", lambda self, notification: None)
        yield


async def test_the_seventeenth_stream_of_a_user_ends_the_first(quick: None, api: Api) -> None:
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(following(api))
        for _ in range(live.MOST_OF_ONE - 1):
            await stack.enter_async_context(following(api))
        other = await stack.enter_async_context(following(api, key=PROVIDER_KEY))
        assert await first.next() == "ping"
        await stack.enter_async_context(following(api))
        await until(lambda: ended(first))
        assert await other.next() == "ping"


async def ended(events: Events) -> bool:
    return await events.next() is None


async def test_streams_end_when_the_application_does(api: Api) -> None:
    async with following(api) as events:
        closing = asyncio.create_task(api.client.server.close())
        async with asyncio.timeout(3):
            assert await events.next() is None
            await closing


async def test_a_stream_grows_old_and_ends(
    api: Api, js: JetStream, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LONGEST_SECONDS", 0.5)
    told = await tell(js, database)
    async with following(api, after=0) as events:
        assert await ids(events, 1) == told
        assert await events.next() is None


async def test_a_reader_that_does_not_read_costs_nothing_and_then_gets_everything(
    api: Api, js: JetStream, database: Any
) -> None:
    """More than the sockets' buffers hold comes while nobody reads: it waits in the table, not in memory."""
    server = api.client.server
    reader, writer = await asyncio.open_connection(server.host, server.port, limit=1024)
    writer.write(
        f"GET {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {CUSTOMER_KEY}\r\nLast-Event-ID: 0\r\n\r\n".encode()
    )
    await reader.readuntil(b"retry: 1000\n")
    (mine,) = api.app[keys.READERS]._all()
    total = 30_000
    await database.execute(
        "insert into notifications (tenant, audience, user_id, number, event_id, kind, title, body, data)"
        " select $1, 'customer', 'own-1', g, 'e' || g, 'order.paid', 't', repeat('x', 500), '{}'"
        " from generate_series(1, $2) g",
        TENANT, total,
    )  # fmt: skip
    await database.execute("insert into inboxes values ($1, 'customer', 'own-1', $2)", TENANT, total)
    mine.look()
    newest = await tell(js, database, inboxes.MOST_WAITING + 10)
    await until(lambda: len(mine._pushed) <= inboxes.MOST_WAITING)
    received = bytearray()
    async with asyncio.timeout(60):
        while f"id: {newest[-1]}\n".encode() not in received[-3_000:]:
            received += await reader.read(1 << 16)
    writer.close()
    got = [
        int(line[4:]) for line in received.replace(b"\r\n", b"\n").split(b"\n") if line.startswith(b"id: ")
    ]
    assert len(set(got)) == len(got) >= total * 0.99  # some ids are cut in two by the chunks of HTTP
    assert got == sorted(got)


# -- while things break ------------------------------------------------------------------------------------


class Resuming:
    """A client that comes back with the last id it has seen, to whatever address the API has now."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.seen: list[str] = []
        self.connections = 0

    async def run(self) -> None:
        while True:
            with contextlib.suppress(aiohttp.ClientError, ConnectionError, AssertionError, TimeoutError):
                async with following(self.api, after=self.seen[-1] if self.seen else 0) as events:
                    self.connections += 1
                    while (got := await events.next(60)) is not None:
                        if isinstance(got, dict):
                            self.seen.append(got["id"])
            await asyncio.sleep(0.05)

    async def has_seen_more(self, number: int) -> None:
        enough = len(self.seen) + number
        await until(lambda: len(self.seen) >= enough)


async def test_a_stream_loses_and_repeats_nothing_while_api_and_nats_restart(
    js: JetStream, database: Any, nats_url: str, fresh_database_url: str, nats_server: NatsServer
) -> None:
    """Two workers write at the same time; the process that streams is replaced, NATS is killed."""
    await store_keys(database)
    old = api_process(nats_url, fresh_database_url)
    client = Resuming(await old.__aenter__())
    stop = asyncio.Event()

    async def write() -> None:
        while not stop.is_set():
            await new_order(database, OWN, at=None)
            await work(js, database)

    reading = asyncio.create_task(client.run())
    writing = [asyncio.create_task(write()) for _ in range(2)]
    await client.has_seen_more(20)
    async with api_process(nats_url, fresh_database_url) as client.api:
        await old.__aexit__(None, None, None)
        await client.has_seen_more(20)
        assert client.connections == 2
        await nats_server.kill()
        await until(lambda: not js.connected)
        await asyncio.sleep(0.3)  # what is told now is told to nobody
        await nats_server.start()
        await until(lambda: js.connected)
        await client.has_seen_more(20)
        stop.set()
        await asyncio.gather(*writing)
        rows = await database.fetch("select notification_id from notifications order by 1")
        await until(lambda: len(client.seen) >= len(rows))
        await asyncio.sleep(0.2)
        assert client.seen == [str(row["notification_id"]) for row in rows]
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def test_readers_look_when_nats_is_back(
    api: Api, js: JetStream, database: Any, nats_server: NatsServer
) -> None:
    async with following(api) as events:
        await nats_server.kill()
        await until(lambda: not api.app[keys.JS].connected)
        told = await tell(js, database, 2)
        assert await events.silent()
        await nats_server.start()
        async with asyncio.timeout(live.LOOK_SECONDS / 2):
            assert await ids(events, 2) == told


async def test_a_stream_survives_the_database(
    js: JetStream, nats_url: str, fresh_database_url: str, postgres_server: PostgresServer, database: Any
) -> None:
    await store_keys(database)
    async with api_process(nats_url, fresh_database_url) as api, following(api) as events:
        await postgres_server.kill()
        api.app[keys.READERS].look_all()
        assert await events.silent()
        await postgres_server.start()
        await until(lambda: answers(database))
        told = await tell(js, database, 2)
        assert await ids(events, 2) == told


async def answers(database: Any) -> bool:
    with contextlib.suppress(Exception):
        return bool(await database.fetchval("select true"))
    return False
