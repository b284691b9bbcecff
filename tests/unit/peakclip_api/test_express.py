"""The express lane on real connections, with an intake that does what the test says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any, cast

import msgspec
import pytest
from aiohttp import web
from fakes import SALE, HeldIntake, Rumour, waits
from support import until

from peakclip.errors import UnavailableError
from peakclip.ingest import IntakeUnavailableError, Outcome, SoldOutError
from peakclip.service import Service
from peakclip_api.accept import Acceptor
from peakclip_api.auth import Credential
from peakclip_api.express import OrderConnection
from peakclip_api.lane import ExpressLane
from peakclip_api.line import Line
from peakclip_api.room import Room

CREDENTIALS = {"Bearer pk_service": Credential("t1", "storefront", "service")}


class Known:
    """Keys or sales that were looked up before."""

    def __init__(self, found: dict[str, Any]) -> None:
        self._found = found

    def remembered(self, name: str | None) -> Any:
        return self._found.get(name or "")


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: Any


class Client:
    """A connection that says exactly what it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def send(self, *parts: bytes) -> None:
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()

    async def reply(self) -> Reply:
        async with asyncio.timeout(5):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)
            }
            body = await self._reader.readexactly(int(headers["content-length"]))
        return Reply(int(first.split()[1]), headers, msgspec.json.decode(body))

    async def is_closed(self) -> bool:
        async with asyncio.timeout(5):
            return await self._reader.read() == b""


def request(
    key: str = "k1",
    *,
    customer: str = "c1",
    body: bytes = b'{"quantity":1}',
    sale: str = "s1",
    **changes: str,
) -> bytes:
    """An ordinary order; `changes` are headers, an empty one is left out."""
    headers = {
        "Host": "shop", "Authorization": "Bearer pk_service", "Idempotency-Key": key,
        "Peakclip-Customer": customer, "Content-Length": str(len(body)),
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }  # fmt: skip
    lines = [f"{name}: {value}" for name, value in headers.items() if value]
    return "\r\n".join([f"POST /v1/sales/{sale}/orders HTTP/1.1", *lines, "", ""]).encode() + body


class Shop:
    """A server whose long way answers 299 and notes what came."""

    def __init__(self) -> None:
        self.intake = HeldIntake()
        self.line = Line(keep=1_000)
        self.rumour = Rumour(self.line)
        self.room = Room(1_000)
        self.acceptor = Acceptor(
            cast("Any", self.intake), self.line, self.rumour, waits(self.line, self.rumour), self.room
        )
        closed = replace(SALE, sale_id="closed", closes=SALE.opens + 1)
        foreign = replace(SALE, sale_id="foreign", tenant="t2")
        sales = Known({"s1": SALE, "closed": closed, "foreign": foreign})
        self.service = Service()
        self.lane = ExpressLane(
            cast("Any", Known(CREDENTIALS)), cast("Any", sales), self.acceptor, self.service
        )
        self.long_way: list[tuple[str, bytes]] = []
        self.manager: web.Server | None = None

    async def handle(self, request: web.BaseRequest) -> web.Response:
        self.long_way.append((request.path, await request.read()))
        return web.json_response({"way": "long"}, status=299)

    async def taken(self, count: int = 1) -> None:
        """Waits until so many orders have reached the intake."""
        await until(lambda: len(self.intake.taken) >= count, pause=0)

    def ends(self, number: int, outcome: Outcome) -> None:
        """The order taken as number `number` has this outcome; a sequence means that it is on disk."""
        order, ended = self.intake.taken[number]
        if isinstance(outcome, int):
            self.acceptor.stored(outcome, [order])
        ended(outcome)


@contextlib.asynccontextmanager
async def open_shop() -> AsyncIterator[tuple[Shop, Client]]:
    shop = Shop()
    loop = asyncio.get_running_loop()
    shop.manager = manager = web.Server(shop.handle)
    server = await loop.create_server(lambda: OrderConnection(manager, shop.lane, loop=loop), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        yield shop, Client(reader, writer)
    finally:
        writer.close()
        server.close()
        manager.pre_shutdown()
        await manager.shutdown(0.1)


async def test_an_ordinary_order_is_answered_when_it_is_on_disk() -> None:
    async with open_shop() as (shop, client):
        await client.send(request())
        await shop.taken()
        order = shop.intake.taken[0][0]
        shop.ends(0, 7)
        reply = await client.reply()
    assert reply.status == 202
    assert reply.body == {
        "order_id": order.order_id, "position": 1, "eta_seconds": None, "status": "queued",
    }  # fmt: skip
    assert reply.headers["location"] == f"/v1/orders/{order.order_id}"
    assert reply.headers["content-type"] == "application/json"
    assert "date" in reply.headers
    assert shop.long_way == []


async def test_one_connection_carries_one_order_after_another() -> None:
    async with open_shop() as (shop, client):
        for number in range(5):
            await client.send(request(f"k{number}", customer=f"c{number}"))
            await shop.taken(number + 1)
            shop.ends(number, number + 1)
            assert (await client.reply()).body["position"] == number + 1
        await client.send(b"GET /v1/sales HTTP/1.1\r\nHost: shop\r\n\r\n")
        assert (await client.reply()).status == 299
        await client.send(request("last", customer="last"))
        await shop.taken(6)
        shop.ends(5, 6)
        assert (await client.reply()).status == 202


@pytest.mark.parametrize(
    "unusual",
    [
        pytest.param(request(Authorization=""), id="no credential"),
        pytest.param(request(Authorization="Bearer pk_unknown"), id="unknown credential"),
        pytest.param(request(Idempotency_Key=""), id="no key"),
        pytest.param(request("two words"), id="bad key"),
        pytest.param(request(Peakclip_Customer=""), id="no customer"),
        pytest.param(request(body=b'{"quantity":0}'), id="invalid"),
        pytest.param(request(body=b"{"), id="malformed"),
        pytest.param(request(body=b'{"quantity":3}'), id="beyond the limit"),
        pytest.param(request(sale="other"), id="unknown sale"),
        pytest.param(request(sale="closed"), id="closed sale"),
        pytest.param(request(sale="foreign"), id="another tenant's sale"),
        pytest.param(request(sale="s%31"), id="escaped path"),
        pytest.param(request(sale="s1/orders?x=1#"), id="query"),
        pytest.param(request().replace(b"POST", b"PUT"), id="another method"),
        pytest.param(request(Connection="close"), id="last request"),
        pytest.param(request(Expect="100-continue"), id="wants to be asked for the body"),
        pytest.param(request().replace(b"HTTP/1.1", b"HTTP/1.0"), id="HTTP/1.0"),
        pytest.param(request(body=b'{"quantity":1' + b" " * 600 + b"}"), id="long body"),
        pytest.param(
            request(Content_Length="", Transfer_Encoding="chunked", body=b'e\r\n{"quantity":1}\r\n0\r\n\r\n'),
            id="chunked",
        ),
    ],
)
async def test_everything_unusual_goes_the_long_way_with_all_of_its_body(unusual: bytes) -> None:
    async with open_shop() as (shop, client):
        await client.send(unusual)
        assert (await client.reply()).status == 299
    assert shop.intake.taken == []
    body = unusual.partition(b"\r\n\r\n")[2]
    assert shop.long_way[0][1] == (b'{"quantity":1}' if b"chunked" in unusual else body)


async def test_a_body_that_comes_later_goes_the_long_way() -> None:
    head, separator, body = request().partition(b"\r\n\r\n")
    async with open_shop() as (shop, client):
        await client.send(head + separator)
        await client.send(body)
        # Both may arrive as one: then it is an ordinary order after all.
        await until(lambda: shop.long_way or shop.intake.taken, pause=0)
        if shop.intake.taken:
            shop.ends(0, 1)
        assert (await client.reply()).status in (202, 299)


async def test_answers_leave_in_the_order_of_the_requests() -> None:
    """What is sent behind an order waits for it, however fast it could be answered itself."""
    async with open_shop() as (shop, client):
        await client.send(request())
        await shop.taken()
        await client.send(b"GET /one HTTP/1.1\r\nHost: shop\r\n\r\nGET /two HTTP/1.1\r\nHost: shop\r\n\r\n")
        await client.send(request("k2", customer="c2"))
        for _ in range(100):
            await asyncio.sleep(0)
        assert shop.long_way == []
        shop.ends(0, 1)
        assert [(await client.reply()).status for _ in range(3)] == [202, 299, 299]
        await until(lambda: len(shop.intake.taken) == 2 or len(shop.long_way) == 3, pause=0)
        if len(shop.intake.taken) == 2:
            shop.ends(1, 2)
        assert (await client.reply()).status in (202, 299)
    assert [path for path, _ in shop.long_way[:2]] == ["/one", "/two"]


async def test_several_requests_in_one_piece_are_all_answered() -> None:
    async with open_shop() as (_, client):
        await client.send(request("k1") + request("k2", customer="c2"))
        assert [(await client.reply()).status for _ in range(2)] == [299, 299]


async def test_a_repeat_and_a_known_order_go_the_long_way() -> None:
    async with open_shop() as (shop, client):
        await client.send(request())
        await shop.taken()
        shop.ends(0, 1)
        assert (await client.reply()).status == 202
        await client.send(request())
        assert (await client.reply()).status == 299
    assert len(shop.intake.taken) == 1


@pytest.mark.parametrize("known_before", [False, True], ids=["told by the counter", "known already"])
async def test_a_sold_out_sale_is_told_so_after_a_look_at_the_log(known_before: bool) -> None:
    async with open_shop() as (shop, client):
        shop.intake.sold_out = known_before
        await client.send(request())
        if not known_before:
            await shop.taken()
            shop.ends(0, SoldOutError())
        reply = await client.reply()
    assert (reply.status, reply.body["type"].rpartition("/")[2]) == (409, "sold-out")
    assert reply.headers["content-type"].startswith("application/problem+json")
    assert "date" in reply.headers
    assert shop.rumour.looks == 1
    assert shop.long_way == []


async def test_who_has_bought_elsewhere_is_not_told_that_it_is_sold_out() -> None:
    """Another process has accepted this very order, and this one has not heard of it yet."""
    async with open_shop() as (shop, client):
        await client.send(request())
        await shop.taken()
        order = shop.intake.taken[0][0]
        shop.rumour.elsewhere = [order]
        shop.ends(0, SoldOutError())
        reply = await client.reply()
    assert (reply.status, reply.body["order_id"]) == (202, order.order_id)


async def test_nobody_is_told_sold_out_while_the_log_cannot_be_read() -> None:
    async with open_shop() as (shop, client):
        shop.rumour.fails = UnavailableError()
        shop.intake.sold_out = True
        await client.send(request())
        reply = await client.reply()
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        shop.rumour.fails = RuntimeError("a defect")
        await client.send(request())
        assert (await client.reply()).status == 503


async def test_all_who_are_refused_together_wait_for_one_look() -> None:
    async with open_shop() as (shop, _):
        outcomes: list[Outcome] = []
        for number in range(50):
            assert shop.acceptor.begin(SALE, f"c{number}", f"k{number}", 1, outcomes.append)
        for number in range(50):
            shop.ends(number, SoldOutError())
        await until(lambda: len(outcomes) == 50, pause=0)
    assert shop.rumour.looks == 1


async def test_an_intake_that_fails_is_a_503_to_be_tried_again() -> None:
    async with open_shop() as (shop, client):
        await client.send(request())
        await shop.taken()
        shop.ends(0, IntakeUnavailableError())
        reply = await client.reply()
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert reply.headers["content-type"].startswith("application/problem+json")
        assert reply.body["type"].endswith("queue-unavailable")
        await client.send(request())  # the same key again
        await shop.taken(2)
        shop.ends(1, 1)
        assert (await client.reply()).status == 202


async def test_an_order_for_which_there_is_no_room_is_refused_at_once_and_the_connection_goes_on() -> None:
    async with open_shop() as (shop, client):
        for number in range(1_000):
            shop.room.enter(f"key {number}")
        await client.send(request())
        reply = await client.reply()
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert reply.body["type"].endswith("too-busy")
        assert reply.headers["content-type"].startswith("application/problem+json")
        shop.room.leave("key 7")
        await client.send(request())
        await shop.taken()
        shop.ends(0, 1)
        assert (await client.reply()).status == 202
    assert shop.long_way == []


async def test_an_order_whose_client_has_left_stays_accepted_and_harms_nobody() -> None:
    async with open_shop() as (shop, client):
        await client.send(request())
        await shop.taken()
        client.writer.close()
        await client.writer.wait_closed()
        await until(lambda: shop.manager and not shop.manager.connections, pause=0)
        shop.ends(0, 1)
        assert shop.line.find(shop.intake.taken[0][0].order_id) is not None


async def test_a_process_that_stops_answers_the_order_in_flight_first() -> None:
    async with open_shop() as (shop, client):
        await client.send(request())
        await shop.taken()
        assert shop.manager is not None
        shop.manager.pre_shutdown()
        stopping = asyncio.create_task(shop.manager.shutdown(5))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not stopping.done()
        shop.ends(0, 1)
        assert (await client.reply()).status == 202
        await stopping
        assert await client.is_closed()


async def test_a_process_that_stops_does_not_wait_for_ever() -> None:
    async with open_shop() as (shop, client):
        await client.send(request())
        await shop.taken()
        assert shop.manager is not None
        await asyncio.wait_for(shop.manager.shutdown(0.05), 5)
        assert await client.is_closed()
        shop.ends(0, 1)  # nobody is there to be told
