"""The client's ordered consumer: it follows a stream, and after a broken connection goes on behind what it has had."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec
import nats.errors
from nats.aio.msg import Msg
from nats.js.errors import APIError

if TYPE_CHECKING:
    from simulation.servers.client import Client

_MOST_UNHEARD_SECONDS: Final = 3.0  # until it goes on
_API_SECONDS: Final = 2.0


class Following:
    def __init__(
        self,
        client: Client,
        stream: str,
        first: int,
        subject: str,
        callback: Callable[[Msg], Awaitable[None]],
    ) -> None:
        self._client = client
        self._stream = stream
        self._newest = first - 1
        self._subject = subject
        self._callback = callback
        self._heard: Any = None
        self._epoch: int | None = None  # of the connection over which it is served
        self._number = 0  # of its last message

    async def begin(self) -> None:
        """Raises what a request raises, and APIError."""
        if self._heard is not None:
            await self._heard.unsubscribe()
        epoch, inbox = self._client.epoch, self._client.new_inbox()
        self._number = 0
        self._heard = await self._client.subscribe(inbox, self._received)
        wish = {"deliver_subject": inbox, "opt_start_seq": self._newest + 1, "filter_subject": self._subject}
        subject = f"$JS.API.CONSUMER.CREATE.{self._stream}.{inbox.rpartition('.')[2]}"
        reply = await self._client.request(subject, msgspec.json.encode({"config": wish}), _API_SECONDS)
        if error := msgspec.json.decode(reply.data).get("error"):
            await self._heard.unsubscribe()
            raise APIError(**error)
        self._epoch = epoch

    async def keep(self, pause: Callable[[], float]) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(_MOST_UNHEARD_SECONDS * pause())
            if self._epoch != self._client.epoch and self._client.is_connected:
                try:
                    await self.begin()
                except (nats.errors.Error, TimeoutError, APIError):
                    continue

    async def _received(self, msg: Msg) -> None:
        """What comes behind a gap is not taken: it is read again, from the gap on."""
        found = msg.metadata.sequence
        if found.consumer != self._number + 1:
            self._epoch = None
            return
        self._number, self._newest = found.consumer, found.stream
        await self._callback(msg)
