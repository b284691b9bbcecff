"""The express lane's connection: what waits behind an order, what is said when something goes wrong, when it ends."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import msgspec
from support import until
from unit.peakclip_api.test_express import Shop, open_shop, request

from peakclip.outcomes import Waiting
from peakclip_api.express import OrderConnection


def connection_of(shop: Shop) -> OrderConnection:
    assert shop.manager is not None
    (connection,) = shop.manager.connections
    return cast("OrderConnection", connection)


async def settled() -> None:
    """Lets the loop see what has arrived."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_key_that_another_process_took_for_another_order_is_left_to_the_long_way() -> None:
    """It says 422: the database keeps the first order, and this one's client must not believe that it is theirs."""
    async with open_shop() as (shop, client):
        await client.send(request(body=b'{"quantity":2}'))
        await shop.taken()
        order = shop.intake.taken[0][0]
        shop.line.add_frame(1, [msgspec.structs.replace(order, quantity=1, fingerprint="another")])
        shop.ends(0, 2)
        assert (await client.reply()).status == 299
    assert shop.long_way == [("/v1/sales/s1/orders", b'{"quantity":2}')]


async def test_orders_that_come_before_the_last_is_answered_take_the_express_lane_one_by_one() -> None:
    async with open_shop() as (shop, client):
        for number in range(50):  # more than aiohttp would hold unread, twice over
            await client.send(request(f"k{number}", customer=f"c{number}"))
            if number:
                await settled()
                assert len(shop.intake.taken) == number
                shop.ends(number - 1, number)
                assert (await client.reply()).body["position"] == number
            await shop.taken(number + 1)
        shop.ends(49, 50)
        assert (await client.reply()).status == 202
    assert shop.long_way == []


async def test_however_much_comes_behind_an_order_little_is_held_and_all_is_answered() -> None:
    many = 2_000
    async with open_shop() as (shop, client):
        await client.send(request())
        await shop.taken()
        other = b"GET /x HTTP/1.1\r\nHost: shop\r\nX: %b\r\n\r\n" % (b"x" * 200)
        sending = asyncio.create_task(client.send(other * many))
        for _ in range(20):
            await settled()
        assert 0 < len(connection_of(shop)._behind) <= 1 << 18 < len(other) * many
        shop.ends(0, 1)
        assert [(await client.reply()).status for _ in range(1 + many)] == [202] + [299] * many
        await sending
    assert len(shop.long_way) == many


async def test_a_connection_with_an_order_in_flight_is_not_idle_and_one_that_was_answered_is() -> None:
    """Who is idle for longest makes room for others: that must be nobody who waits for an answer."""
    async with open_shop() as (shop, client):
        await client.send(request())
        await shop.taken()
        assert not connection_of(shop).is_idle
        shop.ends(0, 1)
        assert (await client.reply()).status == 202
        assert connection_of(shop).is_idle


async def test_an_answer_that_cannot_be_written_ends_the_connection(monkeypatch: Any) -> None:
    async with open_shop() as (shop, client):
        await client.send(request())
        await shop.taken()

        def broken(_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(shop.acceptor, "finish", broken)
        order, ended = shop.intake.taken[0]
        Waiting(order, ended, 0.0).end(1)
        assert await client.is_closed()


async def test_a_connection_with_an_order_in_flight_is_not_idle() -> None:
    async with open_shop() as (shop, client):
        await settled()
        connection_of(shop)._next_keepalive_close_time = 0.0  # idle for an hour, and then an order comes
        await client.send(request())
        await shop.taken()
        connection_of(shop)._process_keepalive()
        shop.ends(0, 1)
        assert (await client.reply()).status == 202


async def test_what_waits_behind_an_order_is_counted_until_the_order_is_answered() -> None:
    async with open_shop() as (shop, client):
        await client.send(request())
        await shop.taken()
        guard = connection_of(shop)._guard
        assert guard.arriving == 0
        await client.send(b"GET /x HTTP/1.1\r\nHost: shop\r\n\r\n")
        await until(lambda: guard.arriving == 31)
        shop.ends(0, 1)
        assert [(await client.reply()).status for _ in range(2)] == [202, 299]
        assert guard.arriving == 0


async def test_a_connection_is_not_idle_while_its_order_is_being_stored() -> None:
    async with open_shop() as (shop, client):
        await client.send(request())
        await shop.taken()
        connection = connection_of(shop)
        connection._keepalive = True  # as after an earlier request
        connection._next_keepalive_close_time = 0.0
        connection._process_keepalive()
        await settled()
        shop.ends(0, 1)
        assert (await client.reply()).status == 202
        connection._next_keepalive_close_time = 0.0
        connection._process_keepalive()
        assert await client.is_closed()
