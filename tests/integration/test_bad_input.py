"""What is wrong with a request is said as a problem of the right status, and nothing is accepted or lost by it.

The servers and the API are up once for the whole module: every case must leave them as they were.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from conftest import _create, wipe
from support import (
    ADMIN_KEY,
    CUSTOMER_KEY,
    FOREIGN_KEY,
    PROVIDER_KEY,
    SERVICE_KEY,
    Answer,
    Api,
    api_process,
    new_name,
    sale_request,
    store_keys,
)

from peakclip import streams, topology
from peakclip.jetstream import JetStream
from peakclip.local.nats import NatsServer
from peakclip.local.postgres import PostgresServer
from peakclip_api.problems import TYPE_PREFIX

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


class Shop:
    """An API with an open sale that nothing in this module may change."""

    def __init__(self, api: Api, js: JetStream, sale_id: str) -> None:
        self.api = api
        self.js = js
        self.sale_id = sale_id
        self.path = f"/v1/sales/{sale_id}/orders"

    async def frames(self) -> int:
        return (await self.js.stream_state(topology.INTAKE)).messages

    async def refused(self, status: int, kind: str, **request: Any) -> Answer:
        """Sends it and checks every promise about problems; nothing was stored."""
        before = await self.frames()
        headers = {
            "Peakclip-Customer": "c1",
            "Idempotency-Key": new_name("bad-"),
            **request.pop("headers", {}),
        }
        headers = {name: value for name, value in headers.items() if value is not None}
        method, path = request.pop("method", "POST"), request.pop("path", self.path)
        answer = await self.api.call(method, path, headers=headers, **request)
        check_problem(answer, status, kind)
        assert await self.frames() == before
        return answer


def check_problem(answer: Answer, status: int, kind: str) -> None:
    assert (answer.status, answer.kind) == (status, kind), answer.text
    assert answer.content_type == "application/problem+json"
    body = answer.body
    assert body["type"] == TYPE_PREFIX + kind
    assert body["status"] == status
    assert body["title"] == kind.replace("-", " ").capitalize()
    assert body["detail"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(nats_server: NatsServer, postgres_server: PostgresServer) -> AsyncIterator[Shop]:
    await nats_server.start()
    await postgres_server.start()
    name = f"bad_input_{secrets.token_hex(4)}"
    await _create(postgres_server, name)
    url = postgres_server.url_of(name)
    async with (
        await JetStream.connect(nats_server.url, name="test") as js,
        asyncpg.create_pool(url, min_size=1, max_size=2) as pool,
    ):
        await wipe(js)
        await streams.ensure(js)
        await store_keys(pool)
        async with api_process(nats_server.url, url) as api:
            yield Shop(api, js, await api.sale(stock=5, limit=2))


@pytest.mark.parametrize(
    "body", [b"{", b"quantity=1", b'{"quantity": 1,}', b"\xff\xfe", b'{"quantity": NaN}', b" "]
)
async def test_a_body_that_is_not_json(shop: Shop, body: bytes) -> None:
    await shop.refused(400, "malformed-json", data=body)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"quantity": "1"}', "quantity"),
        ('{"quantity": null}', "quantity"),
        ('{"quantity": true}', "quantity"),
        ('{"quantity": 1.5}', "quantity"),
        ('{"quantity": [1]}', "quantity"),
        ('{"quantity": 0}', "quantity"),
        ('{"quantity": -3}', "quantity"),
        ('{"quantity": 1001}', "quantity"),
        ('{"quantity": 99999999999999999999999999}', "quantity"),
        ('{"quantity": 1, "customer_id": "somebody"}', ""),
        ("[]", ""),
        ('"one"', ""),
        ("null", ""),
    ],
)
async def test_a_wrong_type_or_value_is_named(shop: Shop, body: str, field: str) -> None:
    answer = await shop.refused(422, "invalid-request", data=body)
    (error,) = answer.body["errors"]
    assert error["field"] == field
    assert error["message"]


async def test_an_unknown_field_is_named(shop: Shop) -> None:
    answer = await shop.refused(422, "invalid-request", data='{"quantities": 1}')
    assert "quantities" in answer.body["errors"][0]["message"]


@pytest.mark.parametrize("key", [None, "", "a b", "k" * 256, "schlüssel"])
async def test_a_missing_or_invalid_idempotency_key(shop: Shop, key: str | None) -> None:
    await shop.refused(400, "idempotency-key-required", headers={"Idempotency-Key": key}, data="{}")


@pytest.mark.parametrize("sale", ["unknown", "a%00b", "%FF", "x" * 2000, "s.*", "%3E"])
async def test_an_unknown_sale(shop: Shop, sale: str) -> None:
    await shop.refused(404, "sale-not-found", path=f"/v1/sales/{sale}/orders", data="{}")
    await shop.refused(404, "sale-not-found", path=f"/v1/sales/{sale}", method="GET")


async def test_a_sale_of_another_tenant_does_not_exist(shop: Shop) -> None:
    await shop.refused(404, "sale-not-found", key=FOREIGN_KEY, data="{}")
    await shop.refused(404, "sale-not-found", key=FOREIGN_KEY, method="GET", path=f"/v1/sales/{shop.sale_id}")


async def test_a_sale_that_is_closed(shop: Shop) -> None:
    closed = await shop.api.sale(opens=-60, closes=-1)
    await shop.refused(410, "sale-closed", path=f"/v1/sales/{closed}/orders", data="{}")


async def test_a_sale_that_is_not_open_yet(shop: Shop) -> None:
    early = await shop.api.sale(opens=30, closes=60)
    answer = await shop.refused(425, "sale-not-open", path=f"/v1/sales/{early}/orders", data="{}")
    assert 25 <= int(answer.headers["Retry-After"]) <= 31


async def test_more_than_a_customer_may_have(shop: Shop) -> None:
    await shop.refused(409, "limit-reached", data='{"quantity": 3}')


async def test_nothing_left(shop: Shop) -> None:
    empty = await shop.api.sale(stock=0)
    await shop.refused(409, "sold-out", path=f"/v1/sales/{empty}/orders", data="{}")


async def test_an_oversized_body(shop: Shop) -> None:
    await shop.refused(413, "body-too-large", data=b'{"quantity": 1}' + b" " * 20_000)


async def test_an_oversized_body_in_pieces(shop: Shop) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b" " * 1_000

    await shop.refused(413, "body-too-large", data=pieces())


async def test_a_body_that_is_not_compressed_as_it_says(shop: Shop) -> None:
    await shop.refused(400, "malformed-body", data=b"not gzip", headers={"Content-Encoding": "gzip"})


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Basic dXNlcjpwYXNz",
        "Bearer",
        "Bearer ",
        "Bearer pk_unknown",
        "Bearer other",
        f"{SERVICE_KEY}",
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_missing_or_wrong_credential(shop: Shop, authorization: str | None, method: str) -> None:
    path = shop.path if method == "POST" else "/v1/orders/00000000-0000-8000-8000-000000000000"
    headers = {"Authorization": authorization}
    answer = await shop.refused(401, "unauthorized", key=None, headers=headers, method=method, path=path)
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("key", [PROVIDER_KEY, ADMIN_KEY])
async def test_a_role_that_may_not_order(shop: Shop, key: str) -> None:
    await shop.refused(403, "forbidden", key=key, data="{}")


@pytest.mark.parametrize("key", [SERVICE_KEY, CUSTOMER_KEY, PROVIDER_KEY])
async def test_a_role_that_may_not_make_sales(shop: Shop, key: str) -> None:
    await shop.refused(403, "forbidden", key=key, path="/v1/sales", json=sale_request())


@pytest.mark.parametrize("customer", [None, "", "c" * 129, "a\tb"])
async def test_a_service_that_names_no_customer(shop: Shop, customer: str | None) -> None:
    await shop.refused(400, "customer-required", headers={"Peakclip-Customer": customer}, data="{}")


async def test_an_unknown_route(shop: Shop) -> None:
    await shop.refused(404, "not-found", path="/v1/nothing", data="{}")
    await shop.refused(404, "not-found", path="/v1/nothing", method="GET")


async def test_a_method_that_a_route_does_not_have(shop: Shop) -> None:
    answer = await shop.refused(405, "method-not-allowed", method="DELETE")
    assert answer.headers["Allow"] == "POST"


@pytest.mark.parametrize("order_id", ["nonsense", "00000000-0000-8000-8000-000000000000", "a%00b"])
async def test_an_unknown_order(shop: Shop, order_id: str) -> None:
    await shop.refused(404, "order-not-found", method="GET", path=f"/v1/orders/{order_id}")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"stock": -1}, "stock"),
        ({"stock": "5"}, "stock"),
        ({"product": ""}, "product"),
        ({"product": "a\0b"}, "product"),
        ({"price_cents": 1.5}, "price_cents"),
        ({"opens_at": "tomorrow"}, "opens_at"),
        ({"opens_at": "2026-01-01T00:00:00"}, "opens_at"),
        ({"opens_at": "0001-01-01T00:00:00+14:00"}, "opens_at"),
        ({"closes_at": "9999-12-31T23:59:59-14:00"}, "closes_at"),
        ({"closes_at": "2020-01-01T00:00:00Z"}, "closes_at"),
        ({"per_customer_limit": 0}, "per_customer_limit"),
        ({"pay_within_seconds": 0}, "pay_within_seconds"),
        ({"discount": 1}, ""),
    ],
)
async def test_a_sale_that_makes_no_sense(shop: Shop, change: dict[str, Any], field: str) -> None:
    request = {**sale_request(), **change}
    answer = await shop.refused(422, "invalid-request", key=ADMIN_KEY, path="/v1/sales", json=request)
    assert answer.body["errors"][0]["field"] == field


async def test_a_sale_without_a_field_that_it_needs(shop: Shop) -> None:
    answer = await shop.refused(422, "invalid-request", key=ADMIN_KEY, path="/v1/sales", data="{}")
    assert "product" in answer.body["errors"][0]["message"]


async def test_a_key_of_another_sale(shop: Shop) -> None:
    headers = {"Idempotency-Key": new_name("sale-")}
    first, second = sale_request(), sale_request(stock=11)
    made = await shop.api.call("POST", "/v1/sales", key=ADMIN_KEY, json=first, headers=headers)
    again = await shop.api.call("POST", "/v1/sales", key=ADMIN_KEY, json=first, headers=headers)
    assert (made.status, again.status, again.body) == (201, 201, made.body)
    await shop.refused(
        422, "idempotency-key-reused", key=ADMIN_KEY, path="/v1/sales", json=second, headers=headers
    )


@pytest.mark.parametrize("name", ["Authorization", "Peakclip-Customer", "Idempotency-Key"])
async def test_bytes_in_a_header_that_are_no_text(shop: Shop, name: str) -> None:
    """Sent by hand, since a client library refuses to."""
    status = {"Authorization": 401, "Peakclip-Customer": 400, "Idempotency-Key": 400}[name]
    headers = {
        "Host": b"localhost",
        "Authorization": f"Bearer {SERVICE_KEY}".encode(),
        "Peakclip-Customer": b"c1",
        "Idempotency-Key": b"k1",
        "Content-Length": b"2",
        "Connection": b"close",
    }
    headers[name] += b"\xff\xfe"
    lines = b"".join(key.encode() + b": " + value + b"\r\n" for key, value in headers.items())
    server = shop.api.client.server
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(f"POST {shop.path} HTTP/1.1\r\n".encode() + lines + b"\r\n{}")
    answer = (await reader.read()).decode(errors="replace")
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(f"HTTP/1.1 {status} "), answer
    assert "application/problem+json" in answer


async def test_after_all_of_this_the_sale_is_as_it_was(shop: Shop) -> None:
    """The last in the module: the stock is still there for two customers with two units each and one with one."""
    answers = [await shop.api.order(shop.sale_id, quantity=quantity) for quantity in (2, 2, 1, 1)]
    assert [answer.status for answer in answers] == [202, 202, 202, 409]
