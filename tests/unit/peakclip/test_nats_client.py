"""The repairs of NATS's client, without a server."""

from __future__ import annotations

import asyncio
import traceback

import pytest
from nats.aio.client import Client

from peakclip.errors import ForbiddenError
from peakclip.nats_client import RepairedClient
from peakclip.nats_wire import inbox_of, login_of, user_of


class Wire:
    """A transport that remembers what was written."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def writelines(self, lines: list[bytes]) -> None:
        self.written += b"".join(lines)


@pytest.fixture
async def client() -> RepairedClient:
    """Connected, as far as the client knows; nobody empties what waits to be written."""
    connected = RepairedClient()
    connected._transport = Wire()
    connected._flush_queue = asyncio.Queue()
    connected._status = Client.CONNECTED
    connected._flusher_task = asyncio.get_running_loop().create_future()
    return connected


def wire(client: RepairedClient) -> bytes:
    return client._transport.written


async def test_a_ping_follows_what_was_to_be_written_before_it(client: RepairedClient) -> None:
    await client._send_command(b"SUB a 1\r\n")
    await client._send_command(b"UNSUB 2\r\n")
    await client._send_ping()
    assert wire(client) == b"SUB a 1\r\nUNSUB 2\r\nPING\r\n"
    await client._send_ping()
    assert wire(client).endswith(b"PING\r\nPING\r\n")
    assert wire(client).count(b"SUB a 1") == 1


async def test_while_disconnected_nothing_is_written_ahead(client: RepairedClient) -> None:
    client._status = Client.RECONNECTING
    await client._send_command(b"SUB a 1\r\n")
    await client._send_ping()
    assert b"SUB" not in wire(client)
    assert client._pending == [b"SUB a 1\r\n"]


async def test_a_pong_for_a_flush_that_was_given_up_is_taken(client: RepairedClient) -> None:
    given_up: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    waiting: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    await client._send_ping(given_up)
    await client._send_ping(waiting)
    given_up.cancel()
    await client._process_pong()
    assert not waiting.done()
    await client._process_pong()
    assert waiting.result() is True


DEAF = 'permissions violation for subscription to "_inbox_w.x.*"'


def depth(refused: BaseException) -> int:
    return sum(1 for _ in traceback.walk_tb(refused.__traceback__))


async def test_refused_over_and_over_it_keeps_nothing_of_the_times_before(client: RepairedClient) -> None:
    client._resp_sub_prefix = bytearray(b"_INBOX_w.x.")
    await client._process_err(DEAF)
    depths = []
    for _ in range(3):
        with pytest.raises(ForbiddenError, match="subscribe to") as refused:
            await client.request("a")
        depths.append(depth(refused.value))
    assert len(set(depths)) == 1


async def test_what_was_refused_is_asked_again_on_another_connection(client: RepairedClient) -> None:
    client._resp_sub_prefix = bytearray(b"_INBOX_w.x.")
    await client._process_err(DEAF)
    client.lost()
    assert client.refusals == {}
    asking = asyncio.create_task(client.request("a"))
    await asyncio.sleep(0)
    assert not asking.done()
    asking.cancel()


async def test_of_refused_subjects_without_end_the_newest_are_known(client: RepairedClient) -> None:
    for number in range(2_000):
        await client._process_err(f'permissions violation for publish to "push.{number}"')
    assert len(client.refusals) == 1_000
    assert "push.1999" in client.refusals


@pytest.mark.parametrize(
    ("url", "user"),
    [
        ("nats://worker:secret@host:4222", "worker"),
        ("nats://a-b_1:x@host", "a-b_1"),
        ("nats://127.0.0.1:4222", ""),
        ("nats://a-token@host", ""),
        ("nats://a.b:x@host", ""),
        ("nats://%2A:x@host", ""),
        ("nats://b%C3%BCro:x@host", ""),
    ],
)
def test_each_user_hears_answers_apart(url: str, user: str) -> None:
    assert user_of(url) == user
    assert inbox_of(user) == (f"_INBOX_{user}" if user else "_INBOX")


@pytest.mark.parametrize(
    ("url", "login"),
    [
        ("nats://worker:a%40b@host:4222", {"user": "worker", "password": "a@b"}),
        ("nats://worker:p@one:4222,nats://two:4222", {"user": "worker", "password": "p"}),
        ("nats://a-token@host", {"token": "a-token"}),
        ("nats://127.0.0.1:4222", {}),
    ],
)
def test_the_login_is_taken_out_of_the_address(url: str, login: dict[str, str]) -> None:
    assert login_of(url) == login
