"""Webhooks against a real server: what it gets, what its answers mean, where nothing ever goes."""

from __future__ import annotations

import asyncio
import socket
import time
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from aiohttp import web
from receivers import MASTER_KEY, everything_is_here, webhook_receiver

from peakclip_worker.channels.names import Names
from peakclip_worker.channels.port import Delivery, DeliveryFailedError, DeliveryRefusedError
from peakclip_worker.channels.webhook import WebhookChannel

pytestmark = pytest.mark.integration

ID = "0b0f6e52-7c5c-4a3c-9c5a-0a2a7f3a1d11"
SOON = 2.0  # seconds in which something that must not wait has happened


def to(address: str, **changes: Any) -> Delivery:
    values: dict[str, Any] = {
        "delivery_id": ID, "notification_id": 7, "tenant": "t1", "user_id": "ada", "channel": "webhook",
        "address": address, "kind": "order.accepted", "title": "Angenommen ✓", "body": "b",
        "data": msgspec.Raw(b'{"order_id": "o1"}'),
        "created_at": datetime.now(UTC), "attempt": 1,
    }  # fmt: skip
    return Delivery(**{**values, **changes})


def local(**options: Any) -> WebhookChannel:
    return WebhookChannel([MASTER_KEY], allow_private=True, **options)


async def test_a_signed_event_under_a_key() -> None:
    async with webhook_receiver() as there, local() as channel:
        await channel.send(to(f"{there.url}/in?token=x"))
    (call,) = there.calls
    assert call.verified
    assert (call.path, call.key, call.headers["webhook-id"]) == ("/in?token=x", ID, ID)
    assert call.headers["Content-Type"].startswith("application/cloudevents+json")
    assert (call.event["id"], call.event["type"], call.event["data"]["title"]) == (
        ID,
        "order.accepted",
        "Angenommen ✓",
    )


async def test_a_signature_is_worth_nothing_at_another_receiver() -> None:
    async with webhook_receiver() as there, local() as channel:
        await channel.send(to(there.url, user_id="ada"))
        await channel.send(to(there.url, user_id="bob"))
        ada, bob = there.calls
        assert ada.verified
        assert bob.verified
        assert ada.headers["webhook-signature"] != bob.headers["webhook-signature"]
    async with webhook_receiver() as there, WebhookChannel([b"x" * 32], allow_private=True) as channel:
        await channel.send(to(there.url))
        assert not there.calls[0].verified  # or the receiver of these tests would believe anything


async def test_while_secrets_change_both_signatures_come() -> None:
    async with (
        webhook_receiver() as there,
        WebhookChannel([b"n" * 32, MASTER_KEY], allow_private=True) as channel,
    ):
        await channel.send(to(there.url))
        assert there.calls[0].verified


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_taken_over(status: int) -> None:
    async with webhook_receiver(default=status) as there, local() as channel:
        await channel.send(to(there.url))


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 503])
async def test_worth_another_attempt(status: int) -> None:
    async with webhook_receiver(default=status) as there, local() as channel:
        with pytest.raises(DeliveryFailedError, match=f"answered {status}"):
            await channel.send(to(there.url))
        assert len(there.calls) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 410, 422])
async def test_refused_for_good(status: int) -> None:
    async with webhook_receiver(default=status) as there, local() as channel:
        with pytest.raises(DeliveryRefusedError, match=f"answered {status}"):
            await channel.send(to(there.url))


async def test_a_receiver_may_ask_for_time() -> None:
    async def busy(_: web.Request) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "17"})

    async with webhook_receiver(default=busy) as there, local() as channel:
        with pytest.raises(DeliveryFailedError) as failed:
            await channel.send(to(there.url))
        assert failed.value.retry_after_seconds == 17


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_no_redirection_is_followed(status: int) -> None:
    async with webhook_receiver() as elsewhere, webhook_receiver() as there, local() as channel:

        async def moved(_: web.Request) -> web.Response:
            return web.Response(status=status, headers={"Location": elsewhere.url})

        there.default = moved
        with pytest.raises(DeliveryRefusedError, match=f"answered {status}"):
            await channel.send(to(there.url))
        assert (len(there.calls), elsewhere.calls) == (1, [])


async def test_a_receiver_that_hangs_costs_its_time_and_no_more() -> None:
    async def hang(_: web.Request) -> web.Response:
        await asyncio.sleep(60)
        raise AssertionError

    async with webhook_receiver(default=hang) as there, local(total_seconds=0.2) as channel:
        began = time.monotonic()
        with pytest.raises(DeliveryFailedError, match=r"no answer within 0\.2 s"):
            await channel.send(to(there.url))
        assert time.monotonic() - began < SOON


async def test_a_connection_that_ends_without_an_answer() -> None:
    async def gone(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with webhook_receiver(default=gone) as there, local() as channel:
        with pytest.raises(DeliveryFailedError, match="broke"):
            await channel.send(to(there.url))
        assert len(there.calls) == 1


async def test_an_answer_without_end_is_not_read() -> None:
    written = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)
            written += 65_536

    async with webhook_receiver(default=endless) as there, local() as channel:
        began = time.monotonic()
        await channel.send(to(there.url))
        assert time.monotonic() - began < SOON
        assert written < 16_000_000  # what fits into the buffers of two sockets


async def test_a_connection_is_used_again() -> None:
    ports = set()

    async def note(request: web.Request) -> web.Response:
        assert request.transport is not None
        ports.add(request.transport.get_extra_info("peername")[1])
        return web.Response(text="thank you")

    async with webhook_receiver(default=note) as there, local() as channel:
        for _ in range(3):
            await channel.send(to(there.url))
            await asyncio.sleep(0.02)  # the rest of the answer
        assert len(ports) == 1


async def test_nobody_there() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        async with local() as channel:
            with pytest.raises(DeliveryFailedError, match="no connection"):
                await channel.send(to(f"http://127.0.0.1:{held.getsockname()[1]}"))


async def test_a_name_that_is_not_found_may_be_found_later() -> None:
    def look_up(*_: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async with local(resolver=Names(look_up)) as channel:
        with pytest.raises(DeliveryFailedError, match="not known"):
            await channel.send(to("http://hooks.example/in"))


@pytest.mark.parametrize("address", ["ftp://127.0.0.1/", "http://u:p@127.0.0.1/", "127.0.0.1", "http://"])
async def test_what_is_no_webhook_is_refused(address: str) -> None:
    async with local() as channel:
        with pytest.raises(DeliveryRefusedError):
            await channel.send(to(address))


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "127.1", "2130706433", "0x7f.0.0.1",
     "0x7f000001", "0177.0.0.1", "0", "0.0.0.0", "localhost.", "127.0.0.1.", "①②⑦.0.0.1"],
)  # fmt: skip
async def test_nothing_goes_into_the_own_network(host: str) -> None:
    async with webhook_receiver() as there, WebhookChannel([MASTER_KEY]) as channel:
        port = there.url.rpartition(":")[2]
        with pytest.raises((DeliveryRefusedError, DeliveryFailedError)) as ended:
            await channel.send(to(f"http://{host}:{port}/"))
        assert there.calls == []
        if host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0x7f.0.0.1", "0.0.0.0"):
            assert isinstance(ended.value, DeliveryRefusedError)
            assert "public internet" in str(ended.value)


async def test_a_name_that_leads_inside_is_refused() -> None:
    async with (
        webhook_receiver() as there,
        WebhookChannel([MASTER_KEY], resolver=Names(everything_is_here)) as channel,
    ):
        with pytest.raises(DeliveryRefusedError, match="public internet"):
            await channel.send(to(there.url.replace("127.0.0.1", "hooks.example")))
        assert there.calls == []


async def test_the_address_that_was_looked_at_is_the_one_connected_to() -> None:
    """One look-up per connection: there is no second one that could answer something else."""
    looked_up = []

    def look_up(host: str, port: int, *rest: Any) -> list[Any]:
        looked_up.append(host)
        return everything_is_here(host, port, *rest)

    async with webhook_receiver() as there, local(resolver=Names(look_up)) as channel:
        await channel.send(to(there.url.replace("127.0.0.1", "hooks.example")))
        assert looked_up == ["hooks.example"]
        assert there.calls[0].headers["Host"].startswith("hooks.example:")
