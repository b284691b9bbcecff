"""Pulling from a durable consumer: messages in hand, and how each of them ends. Part of the port `jetstream`."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from nats.aio.msg import Msg

from peakclip.errors import ForbiddenError

if TYPE_CHECKING:
    from peakclip.jetstream import JetStream


_ABSENT_SECONDS: Final = 0.25  # until the next question for a consumer that does not exist


class InMessage:
    """A message pulled from a consumer. Exactly one of `ack`, `nak`, `term` ends it."""

    __slots__ = (
        "_generation",
        "_js",
        "_msg",
        "delivered",
        "headers",
        "num_pending",
        "payload",
        "seq",
        "stored_at",
        "subject",
    )

    def __init__(self, js: JetStream, msg: Msg) -> None:
        self._js = js
        self._msg = msg
        self._generation = js.generation
        self.subject = msg.subject
        self.payload = msg.data
        self.headers: Mapping[str, str] = msg.headers or {}
        # $JS.ACK[.<domain>.<account hash>].<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<ns>.<pending>
        tokens = msg.reply.split(".")
        tokens = tokens[4:] if len(tokens) >= 11 else tokens[2:]
        self.delivered = int(tokens[2])
        self.seq = int(tokens[3])
        self.stored_at = int(tokens[5]) / 1e9
        self.num_pending = int(tokens[6])

    @property
    def came_before(self) -> bool:
        """Over a connection that was lost since."""
        return self._js.generation != self._generation

    async def ack(self) -> None:
        """Returns when the server has the acknowledgement. Raises OutcomeUnknownError or UnavailableError."""
        await self._js.request(self._msg.reply, b"+ACK")

    async def ack_soon(self) -> None:
        """Without waiting for an answer. Raises UnavailableError while disconnected."""
        await self._js.publish_core(self._msg.reply, b"+ACK")

    async def nak(self, delay: float = 0.0) -> None:
        """Gives the message back, to be delivered again after `delay` seconds."""
        body = b'-NAK {"delay": %d}' % int(delay * 1e9) if delay > 0 else b"-NAK"
        await self._js.publish_core(self._msg.reply, body)

    async def in_progress(self) -> None:
        """Asks for another `ack_wait`."""
        await self._js.publish_core(self._msg.reply, b"+WPI")

    async def term(self) -> None:
        """Never deliver again. Write the dead letter first."""
        await self._js.request(self._msg.reply, b"+TERM")


async def ack_all(messages: Sequence[InMessage]) -> None:
    """Acknowledges messages of one consumer, and returns when the server has worked on every one of these words.

    One question for all of them: the server takes them in the order in which they are sent, and answers the last.
    Raises as `InMessage.ack`; which of them have been noted is then unknown.
    """
    for message in messages[:-1]:
        await message.ack_soon()
    for message in messages[-1:]:
        await message.ack()


async def ack_or_let_go(messages: Sequence[InMessage]) -> None:
    """As `ack_all`, for whom a repeat changes nothing: no answer is awaited of what came before a connection was lost.

    A server that was killed may not know that it gave a message out, and then answers nothing, however long one waits.
    """
    await ack_all([message for message in messages if not message.came_before])
    for message in messages:
        if message.came_before:
            await message.ack_soon()


class PullConsumer:
    """Pulls batches from a durable consumer over one inbox of its own."""

    def __init__(self, js: JetStream, stream: str, consumer: str) -> None:
        self._js = js
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._inbox = js.new_inbox()
        self._numbers = itertools.count()
        self._arrived: deque[InMessage] = deque()
        self._wake = asyncio.Event()
        self._open: int | None = None  # number of the pull whose end has not been seen
        self._absent = False  # nobody answers for this consumer: it does not exist, or not yet
        self._subscription: Any = None

    async def fetch(self, most: int, wait_seconds: float) -> list[InMessage]:
        """Up to `most` messages; returns as soon as there is at least one and nothing more is at hand.

        An empty list after `wait_seconds` means that nothing came. Raises UnavailableError while disconnected, and
        ForbiddenError if this connection may not pull here.
        """
        if self._subscription is None:
            self._subscription = await self._js.subscribe_core(f"{self._inbox}.*", self._on_message)
        if not self._arrived:
            await self._pull(most, wait_seconds)
        return [self._arrived.popleft() for _ in range(min(most, len(self._arrived)))]

    async def _pull(self, most: int, wait_seconds: float) -> None:
        generation = self._js.generation
        self._open = next(self._numbers)
        request: dict[str, Any] = {"batch": most, "expires": int(wait_seconds * 1e9)}
        self._wake.clear()
        self._absent = False
        known = self._js.refusal(self._subject)
        reply = f"{self._inbox}.{self._open}"
        # First whatever is there (`no_wait` answers at once), then, only when there is nothing, wait for one.
        await self._js.publish_core(
            self._subject, msgspec.json.encode({**request, "no_wait": True}), reply=reply
        )
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds + 0.5
        while self._open is not None and len(self._arrived) < most:
            if self._js.generation != generation or not self._js.connected:
                return  # the server lost our pull; what it sent meanwhile comes again after ack_wait
            try:
                # Short slices: a lost connection is noticed in this time and not at the end of the wait.
                async with asyncio.timeout(min(0.25, max(0.0, deadline - loop.time()))):
                    await self._wake.wait()
            except TimeoutError:
                if loop.time() >= deadline:
                    return
            self._wake.clear()
            if (refusal := self._js.refusal(self._subject)) is not known and refusal is not None:
                raise ForbiddenError(refusal.what, self._subject, refusal.user)
        if self._absent:
            await asyncio.sleep(min(_ABSENT_SECONDS, wait_seconds))

    async def _on_message(self, msg: Msg) -> None:
        if msg.reply:
            self._arrived.append(InMessage(self._js, msg))
        elif msg.subject == f"{self._inbox}.{self._open}":  # a status line: this pull is over
            self._open = None
            self._absent = (msg.headers or {}).get("Status") == "503"
        self._wake.set()

    def take_back(self) -> list[InMessage]:
        """What arrived and was not fetched: to be given back (`nak`) before leaving."""
        left = list(self._arrived)
        self._arrived.clear()
        return left
