"""What `peakclip.microservice` promises, with requests over a second connection to a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import psutil
import pytest
from nats.aio.msg import Msg
from support import until

from peakclip.errors import OutcomeUnknownError, PeakclipError, UnavailableError
from peakclip.jetstream import JetStream
from peakclip.local.nats import NatsServer
from peakclip.microservice import (
    MOST_AT_ONCE,
    Endpoint,
    MicroService,
    RequestError,
    ServiceDescription,
)

pytestmark = pytest.mark.integration

DESCRIPTION = ServiceDescription("tested", "1.2.3", "A service of the tests.", "tested")
SUBJECT = "tested.it"


class Desk:
    """Answers `fast` at once, fails as it is told, and keeps everything else until `open` is set."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.waiting = 0
        self.headers: Mapping[str, str] = {}

    async def answer(self, payload: bytes, headers: Mapping[str, str]) -> bytes:
        self.headers = headers
        if payload == b"refuse":
            raise RequestError(409, "not now\nnor ever")
        if payload == b"fail":
            raise KeyError("the secret")
        if payload != b"fast":
            self.waiting += 1
            await self.open.wait()
        return b"answer to " + payload

    def endpoint(self) -> Endpoint:
        return Endpoint("it", SUBJECT, self.answer, {"description": "It."})


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def service(js: JetStream, desk: Desk) -> AsyncIterator[MicroService]:
    running = await js.add_service(DESCRIPTION, [desk.endpoint()])
    yield running
    await running.stop()


@pytest.fixture
async def client(nats_url: str) -> AsyncIterator[JetStream]:
    """Whoever asks, over a connection of its own."""
    async with await JetStream.connect(nats_url, name="asker") as connection:
        yield connection


async def ask(client: JetStream, payload: bytes, seconds: float = 5.0) -> Msg:
    return await client.request(SUBJECT, payload, timeout_seconds=seconds)


async def is_gone(client: JetStream) -> bool:
    """Nobody answers on the subject any more. A request that came before the server knew so may get no answer."""
    try:
        await ask(client, b"fast", 0.5)
    except UnavailableError:
        return True
    except OutcomeUnknownError:
        return False
    return False


async def verb(client: JetStream, subject: str) -> Any:
    return msgspec.json.decode((await client.request(subject, b"")).data)


async def test_a_request_is_answered_with_its_headers_at_hand(
    service: MicroService, client: JetStream, desk: Desk
) -> None:
    answer = await client.request(SUBJECT, b"fast", headers={"traceparent": "00-1-2-03"})
    assert (answer.data, answer.headers) == (b"answer to fast", None)
    assert desk.headers == {"traceparent": "00-1-2-03"}


async def test_the_standard_verbs_find_and_describe_it(service: MicroService, client: JetStream) -> None:
    mine = {"name": "tested", "id": service.instance_id, "version": "1.2.3", "metadata": {}}
    for subject in ("$SRV.PING", "$SRV.PING.tested", f"$SRV.PING.tested.{service.instance_id}"):
        assert await verb(client, subject) == {**mine, "type": "io.nats.micro.v1.ping_response"}
    assert await verb(client, "$SRV.INFO.tested") == {
        **mine,
        "type": "io.nats.micro.v1.info_response",
        "description": "A service of the tests.",
        "endpoints": [
            {"name": "it", "subject": SUBJECT, "queue_group": "tested", "metadata": {"description": "It."}}
        ],
    }


async def test_a_refusal_has_its_code_and_an_accident_tells_nothing(
    service: MicroService, client: JetStream
) -> None:
    refused, failed = await ask(client, b"refuse"), await ask(client, b"fail")
    assert refused.headers == {"Nats-Service-Error": "not now nor ever", "Nats-Service-Error-Code": "409"}
    assert failed.headers == {
        "Nats-Service-Error": "Something is wrong on our side.",
        "Nats-Service-Error-Code": "500",
    }
    assert (refused.data, failed.data) == (b"", b"")
    await ask(client, b"fast")
    (stats,) = (await verb(client, "$SRV.STATS.tested"))["endpoints"]
    assert (stats["num_requests"], stats["num_errors"]) == (3, 2)
    assert stats["last_error"] == "500:Something is wrong on our side."
    assert stats["processing_time"] > 0
    assert stats["average_processing_time"] == stats["processing_time"] // 3


async def test_a_slow_request_holds_up_nobody(service: MicroService, client: JetStream, desk: Desk) -> None:
    slow = asyncio.create_task(ask(client, b"slow"))
    await until(lambda: desk.waiting)
    assert (await ask(client, b"fast")).data == b"answer to fast"
    desk.open.set()
    assert (await slow).data == b"answer to slow"


async def test_no_more_than_so_many_are_worked_on_at_once_and_the_rest_waits(
    service: MicroService, client: JetStream, desk: Desk
) -> None:
    asked = [asyncio.create_task(ask(client, b"%d" % n)) for n in range(MOST_AT_ONCE + 3)]
    await until(lambda: desk.waiting == MOST_AT_ONCE)
    await verb(client, "$SRV.PING.tested")  # whatever was sent before is there by now
    assert desk.waiting == MOST_AT_ONCE
    desk.open.set()
    assert {answer.data for answer in await asyncio.gather(*asked)} == {
        b"answer to %d" % n for n in range(MOST_AT_ONCE + 3)
    }


async def test_a_stop_answers_what_was_received_and_takes_nothing_more(
    service: MicroService, client: JetStream, desk: Desk
) -> None:
    asked = [asyncio.create_task(ask(client, b"%d" % n)) for n in range(MOST_AT_ONCE + 3)]
    await until(lambda: desk.waiting == MOST_AT_ONCE)
    stopping = asyncio.create_task(service.stop())
    await until(lambda: is_gone(client))
    assert not stopping.done()
    desk.open.set()
    assert len({answer.data for answer in await asyncio.gather(*asked)}) == MOST_AT_ONCE + 3
    await stopping
    with pytest.raises(UnavailableError):
        await client.request("$SRV.PING.tested", b"")


async def test_a_stop_waits_for_a_request_that_is_being_worked_on(
    service: MicroService, client: JetStream, desk: Desk
) -> None:
    slow = asyncio.create_task(ask(client, b"slow"))
    await until(lambda: desk.waiting)
    stopping = asyncio.create_task(service.stop())
    await until(lambda: is_gone(client))
    assert not stopping.done()
    desk.open.set()
    assert (await slow).data == b"answer to slow"
    await stopping


async def test_a_publication_without_an_address_for_the_answer_is_no_request(
    service: MicroService, client: JetStream
) -> None:
    await client.publish_core(SUBJECT, b"fast")
    await ask(client, b"fast")
    (stats,) = (await verb(client, "$SRV.STATS.tested"))["endpoints"]
    assert (stats["num_requests"], stats["num_errors"]) == (1, 0)


async def test_it_comes_back_after_a_restart_of_the_server(
    service: MicroService, client: JetStream, nats_server: NatsServer, desk: Desk
) -> None:
    lost = asyncio.create_task(ask(client, b"slow"))
    await until(lambda: desk.waiting)
    await nats_server.kill()
    desk.open.set()  # the answer cannot be sent
    with pytest.raises(PeakclipError):
        await lost
    await nats_server.start()

    async def answered() -> bool:
        try:
            return (await ask(client, b"fast", 1.0)).data == b"answer to fast"
        except PeakclipError:
            return False

    await until(answered)
    assert (await verb(client, "$SRV.PING"))["id"] == service.instance_id


async def test_a_start_that_gets_no_answer_fails_and_leaves_nothing_behind(
    js: JetStream, client: JetStream, desk: Desk, nats_server: NatsServer
) -> None:
    known = set(js._nc._subs)
    assert nats_server.pid is not None
    frozen = psutil.Process(nats_server.pid)
    frozen.suspend()
    try:
        await until(lambda: frozen.status() == psutil.STATUS_STOPPED)
        with pytest.raises(UnavailableError):
            await js.add_service(DESCRIPTION, [desk.endpoint()])
        assert set(js._nc._subs) == known
    finally:
        frozen.resume()
    await until(lambda: is_gone(client))
    again = await js.add_service(DESCRIPTION, [desk.endpoint()])
    assert (await ask(client, b"fast")).data == b"answer to fast"
    await again.stop()
    assert set(js._nc._subs) == known


async def test_without_a_connection_it_is_not_started(
    js: JetStream, desk: Desk, nats_server: NatsServer
) -> None:
    await nats_server.kill()
    await until(lambda: not js.connected)
    with pytest.raises(UnavailableError):
        await js.add_service(DESCRIPTION, [desk.endpoint()])
    await nats_server.start()
    await until(lambda: js.connected)
