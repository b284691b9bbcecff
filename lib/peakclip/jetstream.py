"""The thin port to NATS: everything Peakclip asks of it, with the client's pitfalls hidden here and in `pull`.

What a caller may rely on:

* a write either returns a `PubAck` (it is stored), raises `RefusedError` or `UnavailableError` (it is not), or
  raises `OutcomeUnknownError` (nobody knows: write the same thing with the same identity again);
* nothing is buffered or waited for while disconnected: a write that failed is not sent later behind anybody's back;
* the connection comes back for ever, and `PullConsumer.fetch` survives the restart of the server;
* a fetch that is cancelled loses no message: what arrives late is handed out by the next fetch;
* what the server does not allow raises `ForbiddenError` (a `RefusedError`) at once, or, where nobody waits, is logged;
* answers are heard on `_INBOX_<user>`, so that each user can be kept from hearing those of others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

import msgspec
import nats
import nats.errors
import structlog
from nats.aio.msg import Msg

from peakclip.errors import ForbiddenError, OutcomeUnknownError, PeakclipError, RefusedError, UnavailableError
from peakclip.microservice import Endpoint, MicroService, ServiceDescription
from peakclip.nats_client import RepairedClient
from peakclip.nats_wire import (
    ConsumerState,
    OutMessage,
    PubAck,
    StoredMessage,
    StreamState,
    hpub,
    inbox_of,
    login_of,
    parse_time,
    puback,
    stored,
    user_of,
)
from peakclip.pull import InMessage, PullConsumer

__all__ = [
    "ConsumerState",
    "InMessage",
    "JetStream",
    "OutMessage",
    "PubAck",
    "PullConsumer",
    "StoredMessage",
    "StreamState",
    "parse_time",
]

log = structlog.get_logger()

DUPLICATE_IN_BATCH: Final = 10201  # an atomic batch holds a message id that is stored already
WRONG_LAST_SEQUENCE: Final = 10071  # an expectation about the subject's last message failed
NO_MESSAGE_FOUND: Final = 10037
NAME_IN_USE: Final = 10058  # by a stream with another configuration
CONSUMER_NOT_FOUND: Final = 10014
STREAM_NOT_FOUND: Final = 10059
# The client takes a consumer for lost after two to four of them; its own default is 5 s.
_HEARTBEAT_SECONDS: Final = 1.0

_API: Final = "$JS.API"
_decode = msgspec.json.decode


class JetStream:
    """A connection that heals itself. Create it with `JetStream.connect`."""

    def __init__(self, nc: RepairedClient, timeout_seconds: float) -> None:
        self._nc = nc
        self._timeout = timeout_seconds
        self._closing = False
        self.generation = 0  # grows with every reconnect

    @classmethod
    async def connect(cls, url: str, *, name: str, timeout_seconds: float = 2.0) -> Self:
        """Waits for the server with back-off for as long as it takes. `url` may name several of a cluster: `a,b,c`."""
        user = user_of(url)
        nc = RepairedClient(user)
        self = cls(nc, timeout_seconds)

        async def reconnected() -> None:
            self.generation += 1
            # Without user and password: this goes to the log.
            at = nc.connected_url.netloc.rpartition("@")[2] if nc.connected_url else None
            log.info("nats_reconnected", server=at)
            await nc.follow_again()

        async def disconnected() -> None:
            nc.lost()  # not after the next connection: by then it has been told of its own refusals
            if not self._closing:
                log.warning("nats_disconnected")

        async def error(exc: Exception) -> None:
            if not isinstance(exc, (ConnectionError, nats.errors.Error, OSError)):
                log.error("nats_error", error=repr(exc))

        delay = 0.05
        while True:
            try:
                await nc.connect(
                    url.split(","),
                    name=name,
                    **login_of(url),
                    inbox_prefix=inbox_of(user),
                    max_reconnect_attempts=-1,  # the default gives up for good after 60
                    reconnect_time_wait=0.1,  # type: ignore[arg-type]  # seconds; declared int, slept as given
                    connect_timeout=2,
                    pending_size=0,  # refuse at once while disconnected instead of buffering
                    ping_interval=5,
                    max_outstanding_pings=2,
                    allow_reconnect=True,
                    reconnected_cb=reconnected,
                    disconnected_cb=disconnected,
                    error_cb=error,
                )
                return self
            except (nats.errors.Error, OSError, TimeoutError) as exc:
                log.warning("nats_waiting", error=repr(exc))
                await asyncio.sleep(delay)
                delay = min(2.0, delay * 2)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        self._closing = True
        await self._nc.close()

    @property
    def connected(self) -> bool:
        return bool(self._nc.is_connected)

    def new_inbox(self) -> str:
        return str(self._nc.new_inbox())

    def refusal(self, subject: str) -> ForbiddenError | None:
        """Why the server did not take what was published to this subject: it refuses without an answer."""
        return self._nc.refusals.get(subject.lower())

    # -- Core NATS -----------------------------------------------------------------------------------------

    async def publish_core(self, subject: str, payload: bytes, *, reply: str = "") -> None:
        """At most once. Raises UnavailableError while disconnected."""
        if not self.connected:
            raise UnavailableError
        try:
            await self._nc.publish(subject, payload, reply=reply)
        except (nats.errors.Error, OSError) as exc:
            raise UnavailableError from exc

    async def round_trip(self) -> None:
        """Returns when the server has all that was sent before, subscriptions too. Raises as `request` does."""
        # Not the client's `flush`: one that is given up makes it fail on the late answer and read no more.
        await self.request(f"{_API}.INFO", b"")

    async def subscribe_core(self, subject: str, callback: Callable[[Msg], Awaitable[None]]) -> Any:
        """Subscribes; the subscription comes back by itself after a reconnect."""
        return await self._nc.subscribe(subject, cb=callback)

    async def add_service(self, described: ServiceDescription, endpoints: Sequence[Endpoint]) -> MicroService:
        """Answers requests until it is stopped. Raises UnavailableError while disconnected."""
        if not self.connected:
            raise UnavailableError
        service = MicroService(self._nc, described)
        await service.start(endpoints)
        return service

    async def request(
        self,
        subject: str,
        payload: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
    ) -> Msg:
        """Raises UnavailableError when it was certainly not handled, OutcomeUnknownError when that is unknown."""
        if not self.connected:
            raise UnavailableError
        task = asyncio.current_task()
        cancels = task.cancelling() if task else 0
        try:
            reply = await self._nc.request(
                subject,
                payload,
                timeout=timeout_seconds or self._timeout,
                headers=dict(headers) if headers else None,
            )
        except nats.errors.NoRespondersError as exc:
            raise UnavailableError("JetStream does not answer on the server") from exc
        except nats.errors.OutboundBufferLimitError as exc:
            raise UnavailableError from exc
        except (nats.errors.Error, OSError, TimeoutError) as exc:
            raise OutcomeUnknownError from exc
        if task and task.cancelling() > cancels:
            # The client waits by asyncio.wait_for, which on Python 3.11 drops a cancellation that comes together
            # with the answer: measured, one in sixty. A worker would then work on after it was told to stop.
            raise asyncio.CancelledError
        return reply

    # -- writing -------------------------------------------------------------------------------------------

    async def publish(
        self,
        subject: str,
        payload: bytes,
        *,
        message_id: str | None = None,
        create_only: bool = False,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
    ) -> PubAck:
        """Stores one message. With `create_only`, RefusedError(WRONG_LAST_SEQUENCE) if the subject has one."""
        all_headers = dict(headers or {})
        if message_id is not None:
            all_headers["Nats-Msg-Id"] = message_id
        if create_only:
            all_headers["Nats-Expected-Last-Subject-Sequence"] = "0"
        reply = await self.request(subject, payload, headers=all_headers, timeout_seconds=timeout_seconds)
        return puback(reply.data)

    async def increment(
        self,
        subject: str,
        delta: int,
        *,
        message_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
    ) -> PubAck:
        """Adds `delta` to a counter; `PubAck.value` is the sum afterwards, None for a repeated message id."""
        return await self.publish(
            subject,
            b"",
            message_id=message_id,
            headers={**(headers or {}), "Nats-Incr": f"{delta:+d}"},
            timeout_seconds=timeout_seconds,
        )

    async def publish_batch(self, messages: Sequence[OutMessage], timeout_seconds: float = 5.0) -> PubAck:
        """Stores all messages or none (ADR-50, at most 1,000). `PubAck.seq` is that of the last one.

        All but the last are written as one buffer: the client's own publish costs some 20 us a message.
        """
        if not self.connected:
            raise UnavailableError
        batch_id = self.new_inbox().rsplit(".", 1)[-1]
        buffer = bytearray()
        for number, message in enumerate(messages[:-1], start=1):
            buffer += hpub(message, {"Nats-Batch-Id": batch_id, "Nats-Batch-Sequence": str(number)})
        try:
            if buffer:
                await self._nc._send_command(bytes(buffer))
                await self._nc._flush_pending()
        except (nats.errors.Error, OSError) as exc:
            raise OutcomeUnknownError from exc
        last = messages[-1]
        headers = {
            **last.headers,
            "Nats-Batch-Id": batch_id,
            "Nats-Batch-Sequence": str(len(messages)),
            "Nats-Batch-Commit": "1",
        }
        reply = await self.request(
            last.subject, last.payload, headers=headers, timeout_seconds=timeout_seconds
        )
        return puback(reply.data)

    # -- reading -------------------------------------------------------------------------------------------

    def pull(self, stream: str, consumer: str) -> PullConsumer:
        return PullConsumer(self, stream, consumer)

    async def follow(
        self,
        stream: str,
        start_seq: int,
        callback: Callable[[StoredMessage], Awaitable[None]],
        *,
        subject: str = ">",
    ) -> Any:
        """Calls back with every message from `start_seq` on, in order and once, for ever.

        Gaps are read again, and it goes on as soon as it is connected again. RefusedError: there is no such stream.
        """
        newest = start_seq - 1

        async def received(msg: Msg) -> None:
            nonlocal newest
            meta = msg.metadata
            if meta.sequence.stream <= newest:
                return  # a client that lost its consumer before the first message begins at 1 again
            newest = meta.sequence.stream
            await callback(
                StoredMessage(
                    meta.sequence.stream, msg.subject, msg.data, msg.headers or {}, meta.timestamp.timestamp()
                )
            )

        config = nats.js.api.ConsumerConfig(
            deliver_policy=nats.js.api.DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=max(1, start_seq),
            filter_subject=subject,
            idle_heartbeat=_HEARTBEAT_SECONDS,
        )
        try:
            return await self._nc.jetstream().subscribe(
                subject, stream=stream, cb=received, ordered_consumer=True, config=config
            )
        except nats.js.errors.APIError as exc:
            raise RefusedError(exc.err_code or 0, exc.description or "JetStream refused") from exc
        except (nats.errors.Error, OSError, TimeoutError) as exc:
            raise UnavailableError from exc

    async def last_message(self, stream: str, subject: str) -> StoredMessage | None:
        """The newest message of a subject, from the stream's leader; None if there is none."""
        body = msgspec.json.encode({"last_by_subj": subject})
        try:
            answer = await self._api(f"STREAM.MSG.GET.{stream}", body)
        except RefusedError as exc:
            if exc.code == NO_MESSAGE_FOUND:
                return None
            raise
        return stored(answer["message"])

    async def message_from(self, stream: str, seq: int, subject: str = ">") -> StoredMessage | None:
        """The first message with this sequence or a higher one, from the stream's leader; None if there is none."""
        body = msgspec.json.encode({"seq": seq, "next_by_subj": subject})
        try:
            answer = await self._api(f"STREAM.MSG.GET.{stream}", body)
        except RefusedError as exc:
            if exc.code == NO_MESSAGE_FOUND:
                return None
            raise
        return stored(answer["message"])

    async def count_messages(self, stream: str, subject: str, from_seq: int = 1) -> int:
        """Messages of a subject (wildcards allowed) with this sequence or a higher one; the stream allows direct gets.

        The server counts: a stream's info would list every subject by name, 14 ms for 20,000 schedules.
        """
        body = msgspec.json.encode({"seq": max(1, from_seq), "next_by_subj": subject, "batch": 1})
        reply = await self.request(f"{_API}.DIRECT.GET.{stream}", body)
        headers = reply.headers or {}
        if headers.get("Status") == "404":
            return 0
        try:
            return 1 + int(headers["Nats-Num-Pending"])  # it tells of those after the one that it holds
        except (KeyError, ValueError) as exc:
            raise PeakclipError(f"The server does not say how many messages {stream} has.") from exc

    async def stream_state(self, stream: str) -> StreamState:
        answer = await self._api(f"STREAM.INFO.{stream}")
        state = answer["state"]
        return StreamState(
            messages=state["messages"],
            size_bytes=state["bytes"],
            first_seq=state["first_seq"],
            last_seq=state["last_seq"],
            server_time=parse_time(answer["ts"]),
            config=answer["config"],
            created=parse_time(answer["created"]),
        )

    async def consumer_state(self, stream: str, consumer: str) -> ConsumerState:
        """From the consumer's leader. Raises RefusedError if there is no such stream or consumer."""
        answer = await self._api(f"CONSUMER.INFO.{stream}.{consumer}")
        return ConsumerState(
            pending=answer["num_pending"],
            ack_pending=answer["num_ack_pending"],
            redelivered=answer["num_redelivered"],
            waiting=answer["num_waiting"],
            ack_floor_seq=answer["ack_floor"]["stream_seq"],
            delivered_seq=answer["delivered"]["stream_seq"],
        )

    async def purge_below(self, stream: str, seq: int, *, subject: str | None = None) -> None:
        """Removes every message with a sequence lower than `seq`, of this subject (with wildcards) if one is given."""
        request = {"seq": seq, **({"filter": subject} if subject else {})}
        await self._api(f"STREAM.PURGE.{stream}", msgspec.json.encode(request))

    async def kv_get(self, bucket: str, key: str) -> tuple[bytes, int] | None:
        """Value and revision, or None."""
        found = await self.last_message(f"KV_{bucket}", f"$KV.{bucket}.{key}")
        if found is None or found.headers.get("KV-Operation"):
            return None
        return found.payload, found.seq

    async def kv_put(self, bucket: str, key: str, value: bytes, *, revision: int | None = None) -> int:
        """Returns the new revision. With `revision`, RefusedError(WRONG_LAST_SEQUENCE) if it is not the newest."""
        headers = {} if revision is None else {"Nats-Expected-Last-Subject-Sequence": str(revision)}
        return (await self.publish(f"$KV.{bucket}.{key}", value, headers=headers)).seq

    # -- administration ------------------------------------------------------------------------------------

    async def create_stream(self, config: Mapping[str, Any]) -> None:
        """RefusedError(NAME_IN_USE) if there is one with another configuration."""
        await self._api(f"STREAM.CREATE.{config['name']}", msgspec.json.encode(config))

    async def ensure_stream(self, config: Mapping[str, Any]) -> None:
        """Creates the stream, or updates it where the wanted configuration differs."""
        name = config["name"]
        try:
            await self.create_stream(config)
        except RefusedError as exc:
            if exc.code != NAME_IN_USE:
                raise
            current = (await self._api(f"STREAM.INFO.{name}"))["config"]
            await self._api(f"STREAM.UPDATE.{name}", msgspec.json.encode({**current, **config}))

    async def ensure_consumer(self, stream: str, config: Mapping[str, Any]) -> None:
        body = msgspec.json.encode({"stream_name": stream, "config": config})
        await self._api(f"CONSUMER.CREATE.{stream}.{config['durable_name']}", body)

    async def is_durable(self, streams: Sequence[str]) -> bool:
        """True when these streams are in files and the server says that it syncs every write.

        Read back from the server's own report; raises PeakclipError if the server does not tell.
        """
        for stream in streams:
            config = (await self.stream_state(stream)).config
            if config["storage"] != "file" or config.get("persist_mode") == "async":
                return False
        answer = await self._sys_report()
        return bool(answer.get("config", {}).get("sync_always", False))

    async def _sys_report(self) -> dict[str, Any]:
        reply = await self.request("$SYS.REQ.SERVER.PING.JSZ", b"{}")
        answer: dict[str, Any] = _decode(reply.data)
        if "data" not in answer:
            raise PeakclipError(
                "The NATS user may not read the server's JetStream report ($SYS.REQ.SERVER.PING.JSZ)."
            )
        data: dict[str, Any] = answer["data"]
        return data

    async def _api(self, call: str, body: bytes = b"") -> dict[str, Any]:
        reply = await self.request(f"{_API}.{call}", body)
        answer: dict[str, Any] = _decode(reply.data)
        if error := answer.get("error"):
            raise RefusedError(error.get("err_code", 0), error.get("description", "JetStream refused"))
        return answer
