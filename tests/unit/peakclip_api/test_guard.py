"""What connections may hold, on real ones. Time is what the test says: each connection is looked at as of then."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from support import until
from unit.peakclip_api.test_express import Client

from peakclip_api.guard import Guard, Limits
from peakclip_api.guarded import GuardedConnection
from peakclip_api.problems import problems

HEAD = b"POST /echo HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n"
TCP_CLOSE = 7  # of TCP_INFO: it was reset; else the kernel would keep the answer for as long as it liked
LIMITS = Limits(connections=3, receive=10.0, send=30.0, head=1_000)


class Place:
    """A server whose handlers read the body and answer its length, or a megabyte, or wait."""

    def __init__(self, limits: Limits) -> None:
        self.guard = Guard(limits)
        self.go_on = asyncio.Event()
        self.manager = web.Server(self.handle)
        self.address: tuple[str, int] = ("", 0)
        self._clients: list[Client] = []

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        async def answer(request: web.Request) -> web.StreamResponse:
            if request.path == "/large":
                return web.Response(body=b"x" * 8_000_000)
            if request.path == "/wait":
                await self.go_on.wait()
            if request.path == "/unread":
                return web.json_response("not looked at", status=401)
            return web.json_response(len(await request.read()))

        return await problems(request, answer)  # type: ignore[arg-type]

    async def client(self) -> Client:
        client = Client(*await asyncio.open_connection(*self.address))
        self._clients.append(client)
        await settled()
        return client

    def look(self, seconds: float) -> None:
        """At all connections, as if so much time had passed."""
        now = asyncio.get_running_loop().time() + seconds
        for one, transport in [*self.guard._open.items()]:
            one.look(now, transport)

    async def closed(self, many: int = 0) -> None:
        await until(lambda: len(self.guard) == many, pause=0)

    async def end(self) -> None:
        for client in self._clients:
            client.writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await client.writer.wait_closed()


@contextlib.asynccontextmanager
async def place(limits: Limits = LIMITS) -> AsyncIterator[Place]:
    here = Place(limits)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: GuardedConnection(here.manager, loop=loop, guard=here.guard), "127.0.0.1", 0
    )
    here.address = server.sockets[0].getsockname()
    try:
        yield here
    finally:
        await here.end()
        server.close()
        here.manager.pre_shutdown()
        await here.manager.shutdown(0.1)


async def settled() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_head_that_does_not_come_to_its_end_is_told_408() -> None:
    async with place() as here:
        client = await here.client()
        await client.send(HEAD[:30])
        await until(lambda: _one(here)._head_bytes)
        here.look(9.0)
        await client.send(HEAD[30:40])
        await settled()
        here.look(10.1)
        reply = await client.reply()
        assert (reply.status, reply.body["type"].rpartition("/")[2]) == (408, "request-timeout")
        assert reply.headers["connection"] == "close"
        assert await client.is_closed()
        await here.closed()


async def test_who_says_nothing_is_no_slow_request_and_the_first_to_make_room() -> None:
    """Clients open connections before they need them."""
    async with place() as here:
        clients = [await here.client() for _ in range(3)]
        here.look(60.0)
        for client in clients[:2]:
            await client.send(GET)
            assert (await client.reply()).status == 200
        assert len(here.guard) == 3
        await here.guard.look_at_all(0.0)
        late = await here.client()
        await late.send(GET)
        assert (await late.reply()).status == 200
        assert await clients[2].is_closed()


async def test_a_body_that_does_not_come_to_its_end_is_told_408() -> None:
    async with place() as here:
        client = await here.client()
        await client.send(HEAD + b"ab")
        await until(lambda: _one(here)._body_arriving)
        here.look(9.0)
        await client.send(b"c")
        here.look(10.1)
        reply = await client.reply()
        assert (reply.status, reply.body["type"].rpartition("/")[2]) == (408, "request-timeout")
        assert await client.is_closed()
        await here.closed()


async def test_a_body_that_nobody_wanted_is_not_waited_for_either() -> None:
    async with place() as here:
        client = await here.client()
        await client.send(HEAD.replace(b"/echo", b"/unread"))
        assert (await client.reply()).status == 401
        here.look(10.1)
        assert await client.is_closed()


async def test_who_sends_requests_one_after_another_may_stay() -> None:
    async with place() as here:
        client = await here.client()
        for _ in range(3):
            await client.send(HEAD[:20])
            await settled()
            here.look(9.0)
            await client.send(HEAD[20:] + b"ab")
            await settled()
            await client.send(b"cd")
            assert (await client.reply()).body == 4
            here.look(500.0)
        assert len(here.guard) == 1


async def test_the_next_request_is_not_late_while_the_last_one_waits_for_us() -> None:
    async with place() as here:
        client = await here.client()
        await client.send(GET.replace(b" / ", b" /wait "))
        await until(lambda: not _one(here).is_idle and not _one(here)._since)
        await client.send(GET[:20])
        await until(lambda: _one(here)._since)
        here.look(60.0)
        here.go_on.set()
        await client.send(GET[20:])
        assert [(await client.reply()).status for _ in range(2)] == [200, 200]


async def test_a_head_without_end_is_refused() -> None:
    async with place() as here:
        client = await here.client()
        await client.send(GET[:-2])
        with contextlib.suppress(ConnectionError):
            for number in range(40):
                await client.send(b"X-%d: %b\r\n" % (number, b"x" * 40))
                await settled()
        await here.closed()


async def test_what_begins_to_arrive_is_counted_until_it_is_complete() -> None:
    async with place() as here:
        client, other = await here.client(), await here.client()
        await client.send(HEAD[:20])
        await other.send(HEAD + b"ab")
        await until(lambda: here.guard.arriving == 20 + len(HEAD) + 2)
        await other.send(b"c")
        await until(lambda: here.guard.arriving == 20 + len(HEAD) + 3)
        await other.send(b"d")
        assert (await other.reply()).body == 4
        assert here.guard.arriving == 20
        client.writer.transport.abort()
        await until(lambda: here.guard.arriving == 0)


async def test_requests_that_wait_behind_another_one_are_counted() -> None:
    async with place() as here:
        client = await here.client()
        await client.send(GET.replace(b" / ", b" /wait "))
        await settled()
        behind = [HEAD + b"abcd", HEAD + b"abcd" + HEAD + b"ab"]
        for arrived in behind:
            await client.send(arrived)
        await until(lambda: here.guard.arriving == sum(map(len, behind)))
        await client.send(b"cd")
        here.go_on.set()
        assert [(await client.reply()).body for _ in range(4)] == [0, 4, 4, 4]
        assert here.guard.arriving == 0
        await client.send(GET + GET)
        assert [(await client.reply()).body for _ in range(2)] == [0, 0]
        assert here.guard.arriving == 0


async def test_who_puts_too_much_behind_another_request_has_to_go() -> None:
    async with place(Limits(connections=3, unfinished=200)) as here:
        client = await here.client()
        await client.send(GET.replace(b" / ", b" /wait "))
        await settled()
        await client.send(4 * (HEAD + b"abcd"))
        await here.closed()
        assert here.guard.arriving == 0


async def test_a_head_that_begins_with_the_end_of_another_request_is_a_slow_one_too() -> None:
    async with place() as here:
        client = await here.client()
        await client.send(HEAD + b"abcd" + GET[:20])
        assert (await client.reply()).body == 4
        assert here.guard.arriving == len(HEAD) + 24
        assert not _one(here).is_idle
        here.look(10.1)
        assert (await client.reply()).status == 408
        assert await client.is_closed()
        assert here.guard.arriving == 0


@pytest.mark.parametrize(
    "request_",
    [
        HEAD + b"\r\n\r\n",
        HEAD.replace(b"Length: 4", b"Length: 22\r\nContent-Encoding: gzip") + gzip.compress(b"ab", mtime=0),
        HEAD.replace(b"Content-Length: 4", b"Transfer-Encoding: chunked") + b"4\r\nabcd\r\n0\r\n\r\n",
        GET + HEAD + b"abcd",
    ],
)
async def test_a_request_that_came_whole_leaves_nothing_behind(request_: bytes) -> None:
    async with place() as here:
        client = await here.client()
        await client.send(request_)
        for _ in range(1 + request_.startswith(GET)):
            assert (await client.reply()).status == 200
        await settled()
        assert _one(here).is_idle
        assert here.guard.arriving == 0


@pytest.mark.parametrize("pieces", [1, 2])
async def test_a_head_that_is_too_large_is_refused_however_it_comes(pieces: int) -> None:
    async with place() as here:
        client = await here.client()
        head = GET[:-2] + b"X-Large: " + b"x" * 1_000 + b"\r\n\r\n"
        for piece in (head[:600], head[600:]) if pieces == 2 else (head,):
            await client.send(piece)
            await settled()
        await here.closed()
        assert here.guard.arriving == 0


async def test_who_brings_more_than_all_together_may_has_to_go() -> None:
    async with place(Limits(connections=3, unfinished=100)) as here:
        client, late, third = await here.client(), await here.client(), await here.client()
        await client.send(HEAD + b"ab")
        await until(lambda: here.guard.arriving)
        await late.send(GET[:25] + b"X: " + b"x" * 60)
        assert (await late.reply()).status == 503
        assert await late.is_closed()
        await third.send(HEAD + b"abcd")
        assert (await third.reply()).body == 4, "what comes in one piece is not counted"
        await client.send(b"cd")
        assert (await client.reply()).body == 4
        assert here.guard.arriving == 0


async def test_when_too_much_waits_for_its_readers_the_heaviest_have_to_go() -> None:
    async with place(Limits(connections=3, unfinished=1_000)) as here:
        client, other = await here.client(), await here.client()
        await client.send(GET.replace(b" / ", b" /large "))
        await until(lambda: next(iter(here.guard._open.values())).get_write_buffer_size())
        await here.guard.look_at_all(0.0)
        await here.closed(1)
        await other.send(GET)
        assert (await other.reply()).status == 200


async def test_an_answer_that_nobody_reads_ends_the_connection_and_frees_what_it_held() -> None:
    async with place() as here:
        client = await here.client()
        client.writer.transport.pause_reading()
        await client.send(GET.replace(b" / ", b" /large "))
        await until(lambda: next(iter(here.guard._open.values())).get_write_buffer_size())
        here.look(0.0)
        here.look(29.0)
        assert len(here.guard) == 1
        here.look(31.0)
        await here.closed()
        await until(lambda: not here.manager.connections)
        ours = client.writer.get_extra_info("socket")
        await until(lambda: ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSE)


async def test_an_answer_that_is_read_in_time_is_not_cut() -> None:
    async with place() as here:
        client = await here.client()
        await client.send(GET.replace(b" / ", b" /large "))
        await until(lambda: next(iter(here.guard._open.values())).get_write_buffer_size())
        here.look(0.0)
        here.look(29.0)
        async with asyncio.timeout(10):
            head = await client._reader.readuntil(b"\r\n\r\n")
            assert len(await client._reader.readexactly(8_000_000)) == 8_000_000
        assert b"200 OK" in head
        here.look(40.0)
        await client.send(GET)
        assert (await client.reply()).status == 200


async def test_one_connection_too_many_ends_the_one_that_has_been_idle_for_longest() -> None:
    async with place() as here:
        clients = [await here.client() for _ in range(3)]
        for client in (clients[1], clients[0], clients[2]):
            await client.send(GET)
            assert (await client.reply()).status == 200
        await here.guard.look_at_all(0.0)
        late = await here.client()
        await late.send(GET)
        assert (await late.reply()).status == 200
        assert await clients[1].is_closed()
        await clients[2].send(GET)
        assert (await clients[2].reply()).status == 200
        assert len(here.guard) == 3


async def test_who_has_not_read_an_answer_is_not_ended_to_make_room() -> None:
    """It would be closed when it has read it, if ever, and meanwhile nobody would look at it any more."""
    async with place() as here:
        reads_not = await here.client()
        await here.guard.look_at_all(0.0)
        (transport,) = here.guard._open.values()
        first = _one(here)
        others = [await here.client() for _ in range(2)]
        transport.write(b"x" * 8_000_000)
        assert transport.get_write_buffer_size()
        late = await here.client()
        await late.send(GET)
        assert first in here.guard._open
        assert (await late.reply()).status == 503
        assert len(here.guard) == 3
        for client in (reads_not, *others):
            client.writer.transport.abort()


async def test_where_all_are_busy_one_too_many_is_told_when_it_has_asked() -> None:
    async with place() as here:
        busy = [await here.client() for _ in range(3)]
        for client in busy:
            await client.send(GET.replace(b" / ", b" /wait "))
        await settled()
        await here.guard.look_at_all(0.0)
        late = await here.client()
        await late.send(GET)
        reply = await late.reply()
        assert (reply.status, reply.body["type"].rpartition("/")[2]) == (503, "too-busy")
        assert reply.headers["retry-after"] == "1"
        assert await late.is_closed()
        silent = await here.client()
        await until(lambda: here.guard._refused)
        await here.guard.look_at_all(0.0)
        assert here.guard._refused, "it has not had the time to ask"
        await here.guard.look_at_all(0.0)
        assert await silent.is_closed()
        here.go_on.set()
        assert [(await client.reply()).status for client in busy] == [200] * 3
        assert len(here.guard) == 3


async def test_a_thousand_that_are_refused_hold_no_more_than_some() -> None:
    async with place() as here:
        busy = [await here.client() for _ in range(3)]
        for client in busy:
            await client.send(GET.replace(b" / ", b" /wait "))
        await settled()
        many = [await here.client() for _ in range(300)]
        await until(lambda: len(here.guard._refused) == 256)
        assert await many[0].is_closed()
        assert len(here.guard) == 3
        here.go_on.set()


def _one(here: Place) -> GuardedConnection:
    (one,) = here.guard._open
    return one
