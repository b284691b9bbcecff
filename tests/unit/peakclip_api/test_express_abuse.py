"""What a careless or hostile client sends behind an order must not change what the order's client is told."""

from __future__ import annotations

import asyncio

import pytest
from support import until
from unit.peakclip_api.test_express import Client, Shop, open_shop, request

from peakclip.ingest import SoldOutError


async def status_of(client: Client) -> int:
    """Of the next answer, whatever its body is."""
    async with asyncio.timeout(5):
        head = await client._reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await client._reader.readexactly(int(length.partition(b":")[2]))
    return int(head.split()[1])


BROKEN = [
    pytest.param(b"GARBAGE\r\n\r\n", id="not HTTP"),
    pytest.param(b"GET / HTTP/1.1\r\nX: " + b"a" * 9_000 + b"\r\n\r\n", id="long header"),
    pytest.param(b"GET / HTTP/1.1\r\nbad header: 1\r\n\r\n", id="bad header"),
    pytest.param(b"GET / HTTP/1.1\r\nX: \0\r\n\r\n", id="NUL in a header"),
]


@pytest.mark.parametrize("broken", BROKEN)
async def test_what_is_no_http_gets_a_problem_and_leaves_no_traceback_in_the_log(
    broken: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Else whoever reaches the port can fill the log."""
    async with open_shop() as (_, client):
        await client.send(broken)
        reply = await client.reply()
        assert reply.status == 400
        assert reply.headers["content-type"] == "application/problem+json"
        assert reply.body["type"].endswith("/malformed-request")
        assert await client.is_closed()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("broken", BROKEN)
async def test_what_cannot_be_read_behind_an_order_is_refused_after_the_orders_answer(broken: bytes) -> None:
    """Else the first answer is a 400, and whoever sent the order believes that it was refused."""
    async with open_shop() as (shop, client):
        await send_behind_an_order(shop, client, broken, b"and more of it")
        shop.ends(0, 1)
        assert [await status_of(client) for _ in range(2)] == [202, 400]
        assert await client.is_closed()


async def send_behind_an_order(shop: Shop, client: Client, *pieces: bytes) -> None:
    """An order, and behind it pieces that arrive one by one."""
    await client.send(request())
    await shop.taken()
    for piece in pieces:
        await client.send(piece)
        for _ in range(100):
            await asyncio.sleep(0)


async def test_requests_between_the_order_and_what_cannot_be_read_are_answered_in_between() -> None:
    async with open_shop() as (shop, client):
        await send_behind_an_order(
            shop, client, b"GET /one HTTP/1.1\r\nHost: shop\r\n\r\n", b"GARBAGE\r\n\r\n"
        )
        shop.ends(0, 1)
        assert [await status_of(client) for _ in range(3)] == [202, 299, 400]


async def test_a_sold_out_order_is_answered_before_what_cannot_be_read() -> None:
    async with open_shop() as (shop, client):
        await send_behind_an_order(shop, client, b"GARBAGE\r\n\r\n")
        shop.ends(0, SoldOutError())
        assert [await status_of(client) for _ in range(2)] == [409, 400]


async def test_a_client_that_does_not_read_its_answers_goes_the_long_way() -> None:
    """There an answer waits until the client takes it; the express lane would pile them up in memory."""
    async with open_shop() as (shop, client):
        await client.send(request())
        await shop.taken()
        shop.ends(0, 1)
        await client.reply()
        assert shop.manager is not None
        (connection,) = shop.manager.connections
        connection.pause_writing()
        await client.send(request("k2", customer="c2"))
        await until(lambda: shop.long_way or len(shop.intake.taken) > 1, pause=0)
        assert len(shop.intake.taken) == 1
        connection.resume_writing()
        assert await status_of(client) == 299
