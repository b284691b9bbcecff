"""The dashboard's routes over HTTP: what they serve, what they refuse, how a stream begins and ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import msgspec
import pytest
from aiohttp import web
from browser.scenes import BURST, last
from sse import Events

from peakclip.jetstream import JetStream
from peakclip.messages import encode
from peakclip.topology import POOL_STATUS
from peakclip_api import keys
from peakclip_api.board import Board
from peakclip_api.routes import dashboard, nats_metrics

pytestmark = pytest.mark.integration

STATUS = last(BURST, 600)


@pytest.fixture
async def js(nats_url: str) -> AsyncIterator[JetStream]:
    """Core NATS is all that is needed here, so no streams."""
    async with await JetStream.connect(nats_url, name="dashboard-test") as connection:
        yield connection


@pytest.fixture
async def board(js: JetStream) -> AsyncIterator[Board]:
    started = Board(js)
    await started.start()
    yield started
    await started.stop()


@pytest.fixture
async def server(board: Board) -> AsyncIterator[web.AppRunner]:
    """As in production: a handler is not cancelled when its client goes, so a stream has to notice by itself."""
    app = web.Application()
    app[keys.BOARD] = board
    dashboard.add_routes(app)
    nats_metrics.add_routes(app)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=10.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner
    await runner.cleanup()


@pytest.fixture
async def client(server: web.AppRunner) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.addresses[0][1]}") as session:
        yield session


async def test_the_page_and_its_files(client: aiohttp.ClientSession) -> None:
    page = await client.get("/")
    assert page.status == 200
    assert page.content_type == "text/html"
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    body = await page.text()
    assert "http:" not in body
    assert "https:" not in body
    for name, kind in {
        "dashboard.css": "text/css",
        "dashboard.js": "text/javascript",
        "icon.svg": "image/svg+xml",
    }.items():
        assert f"dashboard/{name}" in body
        answer = await client.get(f"/dashboard/{name}")
        assert (answer.status, answer.content_type) == (200, kind)


async def test_an_unchanged_file_is_not_sent_again(client: aiohttp.ClientSession) -> None:
    first = await client.get("/dashboard/dashboard.js")
    assert first.headers["Cache-Control"] == "no-cache"
    again = await client.get("/dashboard/dashboard.js", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status == 304
    assert await again.read() == b""
    other = await client.get("/dashboard/dashboard.js", headers={"If-None-Match": '"other"'})
    assert other.status == 200


@pytest.mark.parametrize(
    "path",
    [
        "__init__.py",
        "nothing.js",
        "..%2fkeys.py",
        "%2e%2e%2fkeys.py",
        "..%5ckeys.py",
        "%2fetc%2fpasswd",
        "dashboard.js%00",
        "../keys.py",
    ],
)
async def test_nothing_else_is_served(server: web.AppRunner, path: str) -> None:
    host, port = server.addresses[0]
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET /dashboard/{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    assert answer.split(b" ")[1] in (b"404", b"400")
    assert b"AppKey" not in answer
    assert b"root:" not in answer


async def test_status_and_metrics_before_and_after_the_first_news(
    client: aiohttp.ClientSession, js: JetStream
) -> None:
    assert (await (await client.get("/v1/status")).json())["pools"] == {}
    nothing = {
        "PendingMessages": None,
        "ProcessedTotal": None,
        "FailedTotal": None,
        "AvgProcessingTime": None,
    }
    assert await (await client.get("/metrics/nats")).json() == {**nothing, "pools": {}}
    await js.publish_core(f"{POOL_STATUS}.orders", encode(STATUS))
    async with asyncio.timeout(5):
        while not (pools := (await (await client.get("/v1/status")).json())["pools"]):  # noqa: ASYNC110 - HTTP
            await asyncio.sleep(0.02)
    assert pools["orders"]["known"] is True
    assert pools["orders"]["status"]["lag_ready"] == STATUS.lag_ready
    numbers = {
        "PendingMessages": (STATUS.lag_ready or 0) + (STATUS.lag_in_flight or 0),
        "ProcessedTotal": STATUS.processed_total,
        "FailedTotal": STATUS.failed_total,
        "AvgProcessingTime": STATUS.average_processing_seconds,
    }
    assert await (await client.get("/metrics/nats")).json() == {**numbers, "pools": {"orders": numbers}}


async def test_a_stream_is_the_history_and_then_every_status(
    client: aiohttp.ClientSession, js: JetStream, board: Board
) -> None:
    board.add(STATUS)
    async with client.get("/v1/status/stream") as response:
        assert response.content_type == "text/event-stream"
        events = Events(response)
        first, history = await events.expect("history")
        assert history["pools"]["orders"]["last_known"]["pool"] == "orders"
        assert len(history["rows"]["orders"][0]) == len(history["columns"])
        numbers = [first]
        for total in range(3):
            await js.publish_core(f"{POOL_STATUS}.orders", encode(last(BURST, 600, processed_total=total)))
            number, change = await events.expect("status")
            assert change["status"]["processed_total"] == total
            numbers.append(number)
        assert numbers == sorted(set(numbers))


async def test_silence_has_a_heartbeat(
    client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboard, "HEARTBEAT_SECONDS", 0.1)
    async with client.get("/v1/status/stream") as response:
        events = Events(response)
        await events.expect("history")
        assert await events.next() == "ping"


async def test_a_reader_that_leaves_in_silence_is_let_go(
    client: aiohttp.ClientSession, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboard, "HEARTBEAT_SECONDS", 0.05)
    async with client.get("/v1/status/stream") as response:
        await Events(response).expect("history")
        assert board.readers == 1
    async with asyncio.timeout(5):
        while board.readers:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)


async def test_a_stream_ends_when_the_application_does(
    server: web.AppRunner, client: aiohttp.ClientSession
) -> None:
    async with client.get("/v1/status/stream") as response:
        events = Events(response)
        await events.expect("history")
        started = asyncio.get_running_loop().time()
        closing = asyncio.create_task(server.cleanup())
        assert await events.next() is None
        await closing
        assert asyncio.get_running_loop().time() - started < 2


async def test_a_reader_that_does_not_read_costs_nothing_and_then_gets_the_newest(
    server: web.AppRunner, board: Board
) -> None:
    """Far more than the sockets' buffers hold is offered while nobody reads."""
    reader, writer = await asyncio.open_connection(*server.addresses[0], limit=1024)
    writer.write(b"GET /v1/status/stream HTTP/1.1\r\nHost: x\r\n\r\n")
    long = last(BURST, 600, reason="x" * 20_000)
    total = 6000
    for number in range(total):
        board.add(msgspec.structs.replace(long, processed_total=number))
        for _ in range(4):  # let the stream write as much as it likes
            await asyncio.sleep(0)
    received, newest = 0, f'"processed_total":{total - 1},'.encode()
    tail = b""
    async with asyncio.timeout(20):
        while newest not in tail:
            chunk = await reader.read(1 << 16)
            received += len(chunk)
            tail = tail[-100:] + chunk
    writer.close()
    assert received < total * 20_000 / 8, "the middle is left out, not kept"
