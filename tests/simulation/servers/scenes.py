"""What the scenarios that run on model and server have in common."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any, Final

import pytest

from peakclip.errors import RefusedError
from peakclip.jetstream import InMessage, JetStream, StoredMessage
from peakclip.pull import PullConsumer

SECOND: Final = 1_000_000_000
ACK_WAIT: Final = 0.4

_numbers = itertools.count()


async def new_stream(js: JetStream, **config: Any) -> tuple[str, str]:
    """A stream of its own: its name, and what its subjects begin with."""
    number = next(_numbers)
    defaults = {"subjects": [f"s{number}.>"], "storage": "file", "allow_direct": True}
    await js.create_stream({"name": f"S{number}", **defaults, **config})
    return f"S{number}", f"s{number}"


async def message(js: JetStream, stream: str, seq: int, subject: str = ">") -> StoredMessage:
    found = await js.message_from(stream, seq, subject)
    assert found is not None
    return found


async def code_of(work: Any) -> int:
    with pytest.raises(RefusedError) as refused:
        await work
    return refused.value.code


async def consumer(js: JetStream, stream: str, name: str = "c", **config: Any) -> PullConsumer:
    defaults = {
        "durable_name": name,
        "ack_policy": "explicit",
        "deliver_policy": "all",
        "ack_wait": int(ACK_WAIT * SECOND),
    }
    await js.ensure_consumer(stream, {**defaults, **config})
    return js.pull(stream, name)


async def filled(js: JetStream, count: int, **config: Any) -> tuple[str, PullConsumer]:
    """A stream with messages 1 to `count`, and its consumer."""
    stream, prefix = await new_stream(js)
    pull = await consumer(js, stream, **config)
    for number in range(1, count + 1):
        await js.publish(f"{prefix}.{number}", str(number).encode())
    return stream, pull


async def state(js: JetStream, stream: str, name: str = "c") -> tuple[int, int, int, int, int]:
    """Pending, in flight, redelivered, floor, delivered; after all that was said before."""
    found = await js.consumer_state(stream, name)
    return found.pending, found.ack_pending, found.redelivered, found.ack_floor_seq, found.delivered_seq


async def settled(js: JetStream, stream: str, wanted: tuple[int, int, int, int, int]) -> None:
    """Words without an answer are worked on a moment later."""
    for _ in range(20):
        if await state(js, stream) == wanted:
            return
        await asyncio.sleep(0.01)
    assert await state(js, stream) == wanted


def seqs(messages: list[InMessage]) -> list[tuple[int, int]]:
    return [(message.seq, message.delivered) for message in messages]


async def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """On the clock of the loop."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - nobody could set an event
            await asyncio.sleep(0.02)
