"""Stands where the client of NATS stands under the port: `JetStream` itself, and all above it, is the real code.

Only as much of the client as `peakclip.jetstream` and `peakclip.pull` ask for; services are not among it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Final, cast

import nats.errors
from nats.aio.msg import Msg
from simulation.servers.following import Following
from simulation.servers.network import Network
from simulation.servers.words import Message

from peakclip.errors import ForbiddenError
from peakclip.jetstream import JetStream
from peakclip_operator.simulation.events.kernel import Process

_RECONNECT_SECONDS: Final = 0.1
_Callback = Callable[[Msg], Awaitable[None]]


def connect(network: Network, process: Process, name: str, *, timeout_seconds: float = 2.0) -> JetStream:
    """The project's own class, over the model."""
    client = Client(network, process, name)
    js = JetStream(cast(Any, client), timeout_seconds)

    def reconnected() -> None:
        js.generation += 1

    client.on_reconnect = reconnected
    return js


class _Subscription:
    """Its callback is called for one message after the other."""

    def __init__(self, client: Client, number: int, pattern: str, callback: _Callback) -> None:
        self._client = client
        self.number = number
        self.pattern = pattern
        self.queue: asyncio.Queue[Msg] = asyncio.Queue()
        self.task = asyncio.get_running_loop().create_task(self._run(callback))

    async def _run(self, callback: _Callback) -> None:
        while True:
            await callback(await self.queue.get())

    async def unsubscribe(self) -> None:
        self._client.unsubscribe(self)


class Client:
    def __init__(self, network: Network, process: Process, name: str) -> None:
        self.process = process
        self.epoch = 0
        self.is_connected = True
        self.refusals: dict[str, ForbiddenError] = {}
        self.on_reconnect: Callable[[], None] = lambda: None
        self._network = network
        self._name = name
        self._closed = False
        self._count = 0
        self._subscriptions: dict[int, _Subscription] = {}
        self._answers: dict[str, asyncio.Future[Msg]] = {}
        self._following: list[asyncio.Task[None]] = []
        network.join(self)
        network.subscribe(self, 0, f"_INBOX.{name}.request.*")

    # -- the connection ------------------------------------------------------------------------------------

    def lost(self) -> None:
        self.epoch += 1
        self.is_connected = False
        self._network.kernel.at(
            self._network.kernel.now, self.process, self._give_up_waiting, list(self._answers.values())
        )
        self._try_again()

    def _give_up_waiting(self, answers: Sequence[asyncio.Future[Msg]]) -> None:
        """For what was asked over the connection that is lost."""
        for answer in answers:
            if not answer.done():
                answer.set_exception(nats.errors.ConnectionClosedError())

    def _try_again(self) -> None:
        pause = _RECONNECT_SECONDS * (0.5 + self._network.chance.random())
        self._network.kernel.at(self._network.kernel.now + pause, self.process, self._reconnect)

    def _reconnect(self) -> None:
        if self._closed:
            return
        if not self._network.up:
            self._try_again()
            return
        self._network.join(self)
        self._network.subscribe(self, 0, f"_INBOX.{self._name}.request.*")
        for one in self._subscriptions.values():
            self._network.subscribe(self, one.number, one.pattern)
        self.is_connected = True
        self.on_reconnect()

    async def close(self) -> None:
        self._closed = True
        self.is_connected = False
        self.epoch += 1
        self._network.forget(self)
        for task in (*self._following, *(one.task for one in self._subscriptions.values())):
            task.cancel()

    # -- what the port asks for ----------------------------------------------------------------------------

    def _new_number(self) -> int:
        self._count += 1
        return self._count

    def new_inbox(self) -> str:
        return f"_INBOX.{self._name}.{self._new_number()}"

    async def publish(
        self, subject: str, payload: bytes = b"", reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        if not self.is_connected:
            raise nats.errors.OutboundBufferLimitError
        self._network.send(self, Message(subject, payload, dict(headers or {}), reply))

    async def request(
        self, subject: str, payload: bytes, timeout: float, headers: Mapping[str, str] | None = None
    ) -> Msg:
        reply = f"_INBOX.{self._name}.request.{self._new_number()}"
        answer = self._answers[reply] = asyncio.get_running_loop().create_future()
        try:
            await self.publish(subject, payload, reply, headers)
            async with asyncio.timeout(timeout):
                message = await answer
        finally:
            del self._answers[reply]
        if (message.headers or {}).get("Status") == "503":
            raise nats.errors.NoRespondersError
        return message

    async def subscribe(self, subject: str, cb: _Callback) -> _Subscription:
        one = _Subscription(self, self._new_number(), subject, cb)
        self._subscriptions[one.number] = one
        if self.is_connected:
            self._network.subscribe(self, one.number, subject)
        return one

    def unsubscribe(self, one: _Subscription) -> None:
        if self._subscriptions.pop(one.number, None) is not None:
            one.task.cancel()
            self._network.unsubscribe(self, one.number)

    def received(self, subscription: int, message: Message) -> None:
        msg = Msg(
            cast(Any, self), message.subject, message.reply, message.payload, dict(message.headers) or None
        )
        if subscription == 0:
            waiting = self._answers.get(message.subject)
            if waiting is not None and not waiting.done():
                waiting.set_result(msg)
        elif (one := self._subscriptions.get(subscription)) is not None:
            one.queue.put_nowait(msg)

    async def _send_command(self, commands: bytes) -> None:
        """HPUB <subject> <bytes of headers> <bytes of all>, once or more."""
        while commands:
            line, _, rest = commands.partition(b"\r\n")
            _, subject, head, size = line.split(b" ")
            block, payload = rest[: int(head)], rest[int(head) : int(size)]
            pairs = (one.partition(": ") for one in block.decode().split("\r\n")[1:] if one)
            await self.publish(subject.decode(), payload, headers={key: value for key, _, value in pairs})
            commands = rest[int(size) + 2 :]

    async def _flush_pending(self) -> None:
        """Nothing waits to be written."""

    def jetstream(self) -> Any:
        return SimpleNamespace(subscribe=self._follow)

    async def _follow(self, subject: str, stream: str, cb: _Callback, config: Any, **_: Any) -> Any:
        following = Following(self, stream, config.opt_start_seq, subject, cb)
        await following.begin()
        self._following.append(
            asyncio.get_running_loop().create_task(following.keep(self._network.chance.random))
        )
        return following
