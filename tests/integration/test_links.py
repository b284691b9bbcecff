"""The proxy that fault tests put between processes and servers: it does each harm, and none when it is not told to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from faults.nemesis.links import Link, links
from support import until

pytestmark = pytest.mark.integration

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Open = Callable[[], Awaitable[Ends]]


@pytest.fixture
async def link() -> AsyncIterator[Link]:
    """To a server that sends everything back."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(1 << 16):
                writer.write(piece)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with links(["a"]) as found:
        found["a"].target = server.sockets[0].getsockname()[1]
        yield found["a"]
    server.close()


@pytest.fixture
async def opened(link: Link) -> AsyncIterator[Open]:
    """Makes connections through it, which end with the test."""
    made: list[Ends] = []

    async def make() -> Ends:
        made.append(await asyncio.open_connection("127.0.0.1", link.port))
        return made[-1]

    yield make
    for _, writer in made:
        writer.transport.abort()
    await asyncio.sleep(0)


async def said(ends: Ends, words: bytes, seconds: float = 5.0) -> bytes:
    ends[1].write(words)
    async with asyncio.timeout(seconds):
        return await ends[0].readexactly(len(words))


async def test_everything_passes(link: Link, opened: Open) -> None:
    ends = await opened()
    much = bytes(range(256)) * 4_000
    assert await said(ends, much) == much
    assert link.passed == 2 * len(much)


async def test_a_cut_ends_what_is_open_and_nothing_else(link: Link, opened: Open) -> None:
    ends = await opened()
    await said(ends, b"hello")
    link.cut()
    with contextlib.suppress(ConnectionError):
        assert await ends[0].read() == b""
    again = await opened()
    assert await said(again, b"hello") == b"hello"
    link.refusing = True
    refused = await opened()
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await said(refused, b"hello")
    link.heal()
    assert await said(await opened(), b"hello") == b"hello"


async def test_a_cut_in_the_middle_lets_so_many_bytes_pass(link: Link, opened: Open) -> None:
    ends = await opened()
    await said(ends, b"12345")
    link.cut(after_bytes=5 + 3)
    ends[1].write(b"67890")
    came = b""
    with contextlib.suppress(ConnectionError):
        while piece := await ends[0].read(100):
            came += piece
    assert came == b"678"
    assert link.passed == 10 + 8
    assert await said(await opened(), b"hello") == b"hello", "it is one cut"


async def test_a_slow_link_takes_its_time(link: Link, opened: Open) -> None:
    ends = await opened()
    link.delay = 0.15
    with pytest.raises(TimeoutError):
        await said(ends, b"hello", 0.25)
    assert await ends[0].readexactly(5) == b"hello"


async def test_nothing_comes_out_of_a_blackhole_before_it_is_over(link: Link, opened: Open) -> None:
    ends = await opened()
    await said(ends, b"hello")
    link.blackhole()
    with pytest.raises(TimeoutError):
        await said(ends, b"again", 0.2)
    young = await opened()  # as in a network that drops: nobody says no
    with pytest.raises(TimeoutError):
        await said(young, b"hello", 0.2)
    link.heal()
    assert await ends[0].readexactly(5) == b"again"
    assert await young[0].readexactly(5) == b"hello"


async def test_the_end_of_one_side_is_the_end_of_the_other(link: Link, opened: Open) -> None:
    ends = await opened()
    await said(ends, b"hello")
    ends[1].close()
    await until(lambda: not link._connections)
    link.target = 1  # nobody is there
    assert await (await opened())[0].read() == b""
