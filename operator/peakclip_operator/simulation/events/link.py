"""The port to NATS on the virtual clock: to its callers the same class, behind it a model of network and broker.

Both directions keep their order, as TCP does. A request that arrives nowhere is answered by nobody, and the caller
learns so when its time is up; what was on its way when the connection broke is lost.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import msgspec
from nats.aio.msg import Msg

from peakclip.errors import ForbiddenError, OutcomeUnknownError, UnavailableError
from peakclip.jetstream import JetStream, PubAck, StoredMessage, StreamState
from peakclip_operator.simulation.events.broker import EPOCH, Broker
from peakclip_operator.simulation.events.kernel import Kernel, Process
from peakclip_operator.simulation.events.queue import Delivery

_TIMEOUT_SECONDS: Final = 2.0  # the port's own default
_RECONNECT_SECONDS: Final = 0.1


@dataclass(slots=True)
class Network:
    """How long a message takes one way, seconds."""

    chance: random.Random
    usual: float = 0.0003
    spike_chance: float = 0.0
    spike: float = 0.05
    extra: float = 0.0  # added to every message for the moment

    def delay(self) -> float:
        seconds = self.usual * (0.5 + self.chance.random()) + self.extra
        if self.spike_chance and self.chance.random() < self.spike_chance:
            seconds += self.spike * self.chance.random() * 2
        return seconds


class Client(JetStream):
    """The connection of one process. `watch` sees what the limiter asks for, before it is sent."""

    def __init__(
        self, kernel: Kernel, process: Process, broker: Broker, network: Network, pool: str = ""
    ) -> None:
        super().__init__(cast(Any, None), _TIMEOUT_SECONDS)
        self._kernel = kernel
        self._process = process
        self._broker = broker
        self._network = network
        self._pool = pool  # whose messages it pulls
        self._open = broker.connected
        self._gone = False  # closed for good
        self._last_out = 0.0
        self._last_in = 0.0
        self._inboxes = 0
        self._callbacks: dict[str, Callable[[Msg], Awaitable[None]]] = {}
        self.on_increment: Callable[[int], None] | None = None
        self.on_look: Callable[[float], None] | None = (
            None  # with the time (true) at which an answered look was sent
        )
        self._look_sent = 0.0
        broker.lost_link.append(self._lost)

    # -- the connection ------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        return self._open

    async def close(self) -> None:
        self.cut()

    def cut(self) -> None:
        """Closed, or the process is dead: the server forgets it."""
        self._gone = True
        self._open = False
        self._forget()

    def _forget(self) -> None:
        for queue in self._broker.queues.values():
            queue.forget(self)

    def _lost(self) -> None:
        if self._open:
            self._open = False
            self._forget()
            self._kernel.at(self._kernel.now + _RECONNECT_SECONDS, self._process, self._reconnect)

    def _reconnect(self) -> None:
        if self._gone:
            return
        if not self._broker.connected:
            pause = _RECONNECT_SECONDS * (0.5 + self._network.chance.random())
            self._kernel.at(self._kernel.now + pause, self._process, self._reconnect)
            return
        self._open = True
        self.generation += 1

    def new_inbox(self) -> str:
        self._inboxes += 1
        return f"_INBOX_worker.{self._inboxes}"

    def refusal(self, subject: str) -> ForbiddenError | None:
        return None

    # -- the way there and back ----------------------------------------------------------------------------

    def _send(self, work: Callable[[], object]) -> None:
        self._last_out = max(self._last_out, self._kernel.now + self._network.delay())
        self._kernel.at(self._last_out, None, self._arrived, work, self.generation)

    def _arrived(self, work: Callable[[], object], generation: int) -> None:
        broker = self._broker
        if not self._open and not self._gone:
            return
        if generation != self.generation or not broker.connected or not broker.answers:
            return
        if broker.frozen_until > self._kernel.now:
            self._kernel.at(broker.frozen_until, None, self._arrived, work, generation)
            return
        work()

    def _back(self, callback: Callable[..., object], *args: Any) -> None:
        self._last_in = max(self._last_in, self._kernel.now + self._network.delay())
        self._kernel.at(self._last_in, self._process, self._received, self.generation, callback, args)

    def _received(self, generation: int, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        if self._open and generation == self.generation:
            callback(*args)

    async def _ask(self, work: Callable[[], object], timeout_seconds: float | None = None) -> Any:
        if not self._open:
            raise UnavailableError
        answer = self._process.create_future()

        def handle() -> None:
            try:
                result = work()
            except Exception as exc:  # noqa: BLE001 - a refusal goes to who asked
                self._back(_fail, answer, exc)
            else:
                self._back(_answer, answer, result)

        self._send(handle)
        timer = self._process.call_later(timeout_seconds or self._timeout, _fail, answer, TimeoutError())
        try:
            return await answer
        except TimeoutError as exc:
            raise OutcomeUnknownError from exc
        finally:
            timer.cancel()

    # -- what the limiter asks -----------------------------------------------------------------------------

    async def stream_state(self, stream: str) -> StreamState:
        sent = self._kernel.now
        state: StreamState = await self._ask(lambda: self._broker.stream_state(stream))
        self._look_sent = sent
        return state

    async def last_message(self, stream: str, subject: str) -> StoredMessage | None:
        found: StoredMessage | None = await self._ask(lambda: self._broker.last_message(subject))
        if self.on_look is not None:
            self.on_look(self._look_sent)
        return found

    async def increment(
        self,
        subject: str,
        delta: int,
        *,
        message_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
    ) -> PubAck:
        if self.on_increment is not None:
            self.on_increment(delta)
        ack: PubAck = await self._ask(lambda: self._broker.increment(subject, delta), timeout_seconds)
        return ack

    async def create_stream(self, config: Mapping[str, Any]) -> None:
        await self._ask(lambda: self._broker.create_stream(config["name"]))

    async def kv_put(self, bucket: str, key: str, value: bytes, *, revision: int | None = None) -> int:
        seq: int = await self._ask(lambda: self._broker.put(f"$KV.{bucket}.{key}", value, revision))
        return seq

    # -- what the pull consumer asks -----------------------------------------------------------------------

    async def subscribe_core(self, subject: str, callback: Callable[[Msg], Awaitable[None]]) -> Any:
        self._callbacks[subject.removesuffix(".*")] = callback

    async def publish_core(self, subject: str, payload: bytes, *, reply: str = "") -> None:
        if not self._open:
            raise UnavailableError
        if subject.startswith("$JS.ACK."):
            self._send(lambda: self._acknowledged(subject, payload))
        elif subject.startswith("$JS.API.CONSUMER.MSG.NEXT."):
            wish = msgspec.json.decode(payload)
            queue = self._broker.queues[subject.rpartition(".")[2]]
            self._send(lambda: queue.pull(self, reply, wish["batch"], wish["expires"] / 1e9))

    async def request(
        self,
        subject: str,
        payload: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
    ) -> Msg:
        """Acknowledgements that are answered; nothing else is asked for by this way."""
        message: Msg = await self._ask(lambda: self._acknowledged(subject, payload), timeout_seconds)
        return message

    def _acknowledged(self, subject: str, word: bytes) -> None:
        """$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<nanoseconds>.<pending>"""
        tokens = subject.split(".")
        queue, delivered, seq = self._broker.queues[tokens[3]], int(tokens[4]), int(tokens[5])
        if word.startswith(b"-NAK"):
            delay = msgspec.json.decode(word[5:])["delay"] / 1e9 if len(word) > 5 else 0.0
            queue.nak(seq, delivered, delay)
        elif word == b"+WPI":
            queue.in_progress(seq, delivered)
        else:
            queue.ack(seq)

    def deliver(self, inbox: str, messages: Sequence[Delivery], status: str | None) -> None:
        """From the queue: to who subscribed."""
        if self._open and self._broker.connected:
            self._back(self._deliver, inbox, messages, status)

    def _deliver(self, inbox: str, messages: Sequence[Delivery], status: str | None) -> None:
        callback = self._callbacks[inbox.rpartition(".")[0]]
        for one in messages:
            stored = int((EPOCH + one.stored_at) * 1e9)
            reply = f"$JS.ACK.WORK.{self._pool}.{one.delivered}.{one.seq}.{one.seq}.{stored}.0"
            _run(callback(Msg(cast(Any, None), inbox, reply, b"", {})))
        if status is not None:
            _run(callback(Msg(cast(Any, None), inbox, "", b"", {"Status": status})))


def _run(word: Awaitable[None]) -> None:
    """A callback that waits for nothing."""
    for _ in word.__await__():
        raise RuntimeError("The callback of a subscription waits.")


def _answer(waiting: asyncio.Future[Any], result: object) -> None:
    if not waiting.done():
        waiting.set_result(result)


def _fail(waiting: asyncio.Future[Any], error: Exception) -> None:
    if not waiting.done():
        waiting.set_exception(error)
