"""The micro service `peakclip`, asked over a connection of its own while the API runs on real servers."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator
from typing import Any

import jsonschema_rs
import msgspec
import openapi
import pytest
from nats.aio.msg import Msg
from support import ADMIN_KEY, TENANT, Api, api_process, drain_batch, store_keys, until

from peakclip.errors import OutcomeUnknownError, PeakclipError, UnavailableError
from peakclip.jetstream import JetStream
from peakclip.local.nats import NatsServer
from peakclip.local.postgres import PostgresServer
from peakclip_api import keys

pytestmark = pytest.mark.integration

NOBODYS = "00000000-0000-8000-8000-000000000000"


@pytest.fixture
async def api(js: JetStream, database: Any, nats_url: str, fresh_database_url: str) -> AsyncIterator[Api]:
    await store_keys(database)
    async with api_process(nats_url, fresh_database_url) as one:
        yield one


@pytest.fixture
async def client(nats_url: str) -> AsyncIterator[JetStream]:
    """Another back end."""
    async with await JetStream.connect(nats_url, name="back-end") as connection:
        yield connection


async def ask(client: JetStream, subject: str, request: Any) -> Msg:
    body = request if isinstance(request, bytes) else msgspec.json.encode(request)
    return await client.request(f"peakclip.{subject}.get", body, timeout_seconds=5.0)


async def code_for(client: JetStream, subject: str, request: Any) -> int | None:
    """The code of the answer's error, if it is one."""
    headers = (await ask(client, subject, request)).headers
    return int(headers["Nats-Service-Error-Code"]) if headers else None


async def order_of(client: JetStream, order_id: str, tenant: str = TENANT) -> Any:
    """The answer's body, or the code of its error."""
    answer = await ask(client, "orders", {"tenant": tenant, "order_id": order_id})
    if answer.headers:
        assert answer.data == b""
        return int(answer.headers["Nats-Service-Error-Code"])
    return msgspec.json.decode(answer.data)


async def every_instance(client: JetStream, verb: str, count: int) -> list[Any]:
    """What all members of the service answer to a verb."""
    answers: list[Any] = []

    async def heard(msg: Msg) -> None:
        answers.append(msgspec.json.decode(msg.data))

    inbox = client.new_inbox()
    subscription = await client.subscribe_core(inbox, heard)
    await client.publish_core(f"$SRV.{verb}.peakclip", b"", reply=inbox)
    await until(lambda: len(answers) >= count)
    await subscription.unsubscribe()
    return answers


async def test_a_queued_order_is_told_as_http_tells_an_admin(api: Api, client: JetStream) -> None:
    sale = await api.sale(stock=10)
    accepted = (await api.order(sale, "c1")).body["order_id"]
    told = await order_of(client, accepted)
    assert told == (await api.call("GET", f"/v1/orders/{accepted}", key=ADMIN_KEY)).body
    assert (told["status"], told["position"], told["customer_id"]) == ("queued", 1, "c1")
    assert "tenant" not in told


async def test_an_order_in_the_database_is_told_as_http_tells_an_admin(
    api: Api, client: JetStream, database: Any
) -> None:
    sale = await api.sale(stock=10)
    accepted = (await api.order(sale, "c1")).body["order_id"]
    entry = api.app[keys.LINE].find(accepted)
    assert await drain_batch(database, [entry.order]) == (1, 0, 0)
    told = await order_of(client, accepted)
    assert told == (await api.call("GET", f"/v1/orders/{accepted}", key=ADMIN_KEY)).body
    assert told["status"] == "pending_payment"
    assert told["expires_at"]


async def test_a_provider_is_told_with_its_statistics(api: Api, client: JetStream, database: Any) -> None:
    await insert_provider(database, rating_sum=9, rating_count=2, completed_orders=5)
    answer = await ask(client, "providers", {"tenant": TENANT, "provider_id": "p-1"})
    told = msgspec.json.decode(answer.data)
    assert told == (await api.call("GET", "/v1/providers/p-1", key=ADMIN_KEY)).body
    schema = {**openapi.DOCUMENT, "$ref": "#/components/schemas/Provider"}
    jsonschema_rs.Draft202012Validator(schema, validate_formats=True).validate(told)
    known = set(openapi.DOCUMENT["components"]["schemas"]["Provider"]["properties"])
    assert set(told) == known
    assert (told["provider_id"], told["email"], told["webhook_url"]) == ("p-1", "p@example.org", None)
    assert (told["rating_average"], told["rating_count"], told["completed_orders"]) == (4.5, 2, 5)


async def test_a_provider_without_a_rating_has_no_average(api: Api, client: JetStream, database: Any) -> None:
    await insert_provider(database)
    answer = await ask(client, "providers", {"tenant": TENANT, "provider_id": "p-1"})
    assert msgspec.json.decode(answer.data)["rating_average"] is None


async def insert_provider(database: Any, **counted: int) -> None:
    await database.execute(
        "insert into providers (provider_id, tenant, name, latitude, longitude, radius_m, email, fingerprint,"
        " rating_sum, rating_count, completed_orders)"
        " values ('p-1', $1, 'Pat', 52.5, 13.4, 5000, 'p@example.org', 'f', $2, $3, $4)",
        TENANT,
        counted.get("rating_sum", 0),
        counted.get("rating_count", 0),
        counted.get("completed_orders", 0),
    )


async def test_what_is_another_tenants_or_was_removed_does_not_exist(
    api: Api, client: JetStream, database: Any
) -> None:
    accepted = (await api.order(await api.sale())).body["order_id"]
    assert await order_of(client, accepted, tenant="t2") == 404
    assert await order_of(client, NOBODYS) == 404
    await insert_provider(database)
    assert await code_for(client, "providers", {"tenant": "t2", "provider_id": "p-1"}) == 404
    assert await code_for(client, "providers", {"tenant": TENANT, "provider_id": "p-2"}) == 404
    assert await code_for(client, "providers", {"tenant": TENANT, "provider_id": "p-1"}) is None
    await database.execute("update providers set deleted_at = now()")
    assert await code_for(client, "providers", {"tenant": TENANT, "provider_id": "p-1"}) == 404


@pytest.mark.parametrize(
    ("request_", "names"),
    [
        (b"", "truncated"),
        (b"not json", "malformed"),
        (b"\xff", "malformed"),
        ({"tenant": TENANT}, "order_id"),
        ({"order_id": NOBODYS}, "tenant"),
        ({"tenant": "", "order_id": NOBODYS}, "tenant"),
        ({"tenant": TENANT, "order_id": "1"}, "UUID"),
        ({"tenant": TENANT, "order_id": NOBODYS, "admin": True}, "admin"),
        (b'{"tenant":"\\ud800","order_id":"%b"}' % NOBODYS.encode(), "malformed"),
        ([TENANT, NOBODYS], "object"),
    ],
    ids=str,
)
async def test_a_malformed_request_is_told_what_is_wrong(
    api: Api, client: JetStream, request_: Any, names: str
) -> None:
    answer = await ask(client, "orders", request_)
    assert answer.headers is not None
    assert answer.headers["Nats-Service-Error-Code"] == "400"
    assert names in answer.headers["Nats-Service-Error"]


async def test_the_service_is_found_described_and_counted(api: Api, client: JetStream) -> None:
    await order_of(client, (await api.order(await api.sale())).body["order_id"])
    await order_of(client, NOBODYS)
    (info,) = await every_instance(client, "INFO", 1)
    assert (info["name"], info["type"]) == ("peakclip", "io.nats.micro.v1.info_response")
    orders, providers = info["endpoints"]
    assert (orders["name"], orders["subject"]) == ("orders-get", "peakclip.orders.get")
    assert (providers["name"], providers["subject"]) == ("providers-get", "peakclip.providers.get")
    for endpoint, request in ((orders, "OrderRequest"), (providers, "ProviderRequest")):
        described = endpoint["metadata"]
        assert described["description"]
        schema = msgspec.json.decode(described["request_schema"])
        assert "tenant" in schema["$defs"][request]["required"]
        document, _, path = described["response_schema"].partition("#/")
        assert document == "/openapi.json"
        assert functools.reduce(lambda within, name: within[name], path.split("/"), openapi.DOCUMENT)
    (stats,) = await every_instance(client, "STATS", 1)
    counted = next(one for one in stats["endpoints"] if one["subject"] == "peakclip.orders.get")
    assert (counted["num_requests"], counted["num_errors"]) == (2, 1)
    assert counted["last_error"] == "404:There is no such order."
    assert counted["average_processing_time"] > 0


async def test_several_processes_share_the_requests(
    api: Api, client: JetStream, nats_url: str, fresh_database_url: str
) -> None:
    sale = await api.sale(stock=10)
    accepted = (await api.order(sale, "c1")).body["order_id"]
    async with api_process(nats_url, fresh_database_url):
        assert len({one["id"] for one in await every_instance(client, "PING", 2)}) == 2
        # Whoever is asked knows it: both follow one log.
        answers = await asyncio.gather(*(order_of(client, accepted) for _ in range(100)))
        assert {answer["status"] for answer in answers} == {"queued"}
        stats = await every_instance(client, "STATS", 2)
    requests = [one["endpoints"][0]["num_requests"] for one in stats]
    assert sum(requests) == 100
    assert min(requests) > 0
    assert (await order_of(client, accepted))["status"] == "queued"  # by the one that is left
    assert len(await every_instance(client, "PING", 1)) == 1


async def test_a_restarted_nats_server_is_answered_again(
    api: Api, client: JetStream, nats_server: NatsServer
) -> None:
    accepted = (await api.order(await api.sale())).body["order_id"]
    assert (await order_of(client, accepted))["status"] == "queued"
    await nats_server.kill()
    await nats_server.start()

    async def answered() -> bool:
        try:
            return bool((await order_of(client, accepted))["status"] == "queued")
        except PeakclipError:
            return False

    await until(answered)


async def test_without_postgresql_known_orders_are_told_and_the_rest_is_not_known(
    api: Api, client: JetStream, postgres_server: PostgresServer
) -> None:
    accepted = (await api.order(await api.sale())).body["order_id"]
    await postgres_server.kill()
    assert (await order_of(client, accepted))["status"] == "queued"
    assert await order_of(client, NOBODYS) == 503
    assert await code_for(client, "providers", {"tenant": TENANT, "provider_id": "p-1"}) == 503
    await postgres_server.start()

    async def back() -> bool:
        return bool(await order_of(client, NOBODYS) == 404)

    await until(back)


async def test_an_api_that_stops_answers_first_what_it_was_asked(
    js: JetStream, database: Any, client: JetStream, nats_url: str, fresh_database_url: str
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        api = await stack.enter_async_context(api_process(nats_url, fresh_database_url))
        async with database.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute("lock table orders")  # whoever reads it waits
            asked = asyncio.create_task(order_of(client, NOBODYS))
            await until(lambda: waits_for_a_lock(connection))
            stopping = asyncio.create_task(stack.aclose())
            await until(lambda: gone(client))
            assert not stopping.done()
            assert js.connected
            await transaction.rollback()
        assert await asked == 404
        await stopping
    assert api.service.failure is None


async def waits_for_a_lock(connection: Any) -> bool:
    return bool(await connection.fetchval("select count(*) from pg_locks where not granted"))


async def gone(client: JetStream) -> bool:
    """Nobody takes requests any more."""
    try:
        await client.request("peakclip.providers.get", b"{}", timeout_seconds=1.0)
    except UnavailableError:
        return True
    except OutcomeUnknownError:  # it came before the server knew
        return False
    return False


async def test_a_stopped_api_is_gone_at_once(
    js: JetStream, database: Any, client: JetStream, nats_url: str, fresh_database_url: str
) -> None:
    async with api_process(nats_url, fresh_database_url):
        assert await order_of(client, NOBODYS) == 404
    with pytest.raises(UnavailableError):  # no responders: nobody waits for a time-out
        await order_of(client, NOBODYS)
