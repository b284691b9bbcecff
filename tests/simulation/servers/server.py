"""PURE. One nats-server with JetStream: what comes in, what goes out, and when it next has something to do by itself.

It speaks the protocol of the real one, `$JS.API` and all, so that the project's own port runs over it unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from simulation.servers import refusals
from simulation.servers.holdings import Holdings
from simulation.servers.refusals import RefusalError
from simulation.servers.stream import Ack
from simulation.servers.words import Message

_API: Final = "$JS.API."
_ABANDONED_SECONDS: Final = 10.0  # a batch that is not ended
_CHANGING: Final = frozenset({"STREAM.UPDATE", "STREAM.DELETE", "STREAM.PURGE"})
_encode, _decode = msgspec.json.encode, msgspec.json.decode


class Server:
    """`listens` tells whether anybody hears a subject."""

    def __init__(self, listens: Callable[[str], bool]) -> None:
        self._listens = listens
        self._has = Holdings(listens)
        self._batches: dict[str, tuple[float, list[Message]]] = {}  # since when, and what has come of it
        self._out: list[Message] = []
        self._touched: dict[str, None] = {}  # streams with something new in them or in their consumers
        self._due: dict[
            str, float
        ] = {}  # by stream: when it or a consumer of it has something to do by itself

    # -- what the edge calls -------------------------------------------------------------------------------

    def receive(self, message: Message, now: float) -> list[Message]:
        """What goes out because of it, an answer that nobody is there to work on it included."""
        self._tick(now)
        self._take_in(message, now)
        return self._sent(now)

    def advance(self, now: float) -> list[Message]:
        self._tick(now)
        return self._sent(now)

    def next_at(self) -> float | None:
        return min(self._due.values(), default=None)

    def restart(self, now: float, *, crashed: bool = False, lost_seconds: float = 0.0) -> None:
        """Of a crash `lost_seconds` tell how long ago a stream that is written later was last written."""
        self._batches.clear()
        for name, stream in list(self._has.streams.items()):
            self._touch(name, now)
            self._has.followers[name].clear()
            if stream.in_memory:
                self._has.delete(name)
                continue
            stream.restarted(now, lost_seconds if crashed else 0.0)
            for consumer in self._has.consumers[name].values():
                consumer.restarted(crashed)
        self._settle()

    def _touch(self, name: str, now: float) -> None:
        if name in self._touched or name not in self._has.streams:
            return
        self._touched[name] = None
        for consumer in self._has.consumers[name].values():
            consumer.save(now)

    def _settle(self) -> None:
        for name in self._touched:
            stream = self._has.streams.get(name)
            if stream is None:
                self._due.pop(name, None)
                continue
            times = [stream.next_at(), *(one.next_at() for one in self._has.consumers[name].values())]
            due = min((one for one in times if one is not None), default=None)
            if due is None:
                self._due.pop(name, None)
            else:
                self._due[name] = due
        self._touched.clear()

    # -- core ----------------------------------------------------------------------------------------------

    def _tick(self, now: float) -> None:
        for name in [name for name, due in self._due.items() if due <= now]:
            self._touch(name, now)
            for message in self._has.streams[name].due(now):
                self._publish(name, message, now)

    def _sent(self, now: float) -> list[Message]:
        """Serves until nothing more comes of it: an advisory may be what another consumer waits for."""
        sent: list[Message] = []
        while True:
            for name in self._touched:
                if name not in self._has.streams:
                    continue
                for one in (*self._has.consumers[name].values(), *self._has.followers[name].values()):
                    one.serve(now)
                    self._out += one.out
                    one.out.clear()
            if not self._out:
                self._settle()
                return sent
            for message in self._out:
                sent.append(message)
                if message.subject.startswith("$JS.EVENT."):
                    self._store_quietly(message, now)
            self._out = []

    def _take_in(self, message: Message, now: float) -> None:
        subject = message.subject
        if subject.startswith(_API):
            handled = self._asked(subject.removeprefix(_API), message, now)
        elif subject.startswith("$JS.ACK."):
            handled = self._acknowledged(message, now)
        else:
            handled = self._stored(message, now)
        heard = self._listens(subject)
        if heard:
            self._out.append(message)
        if message.reply and not handled and not heard:
            self._out.append(Message(message.reply, headers={"Status": "503"}))

    def _stored(self, message: Message, now: float) -> bool:
        name = self._taker(message.subject)
        if name is None:
            return False
        self._touch(name, now)
        try:
            store = self._batched if "Nats-Batch-Id" in message.headers else self._publish
            ack = store(name, message, now)
        except RefusalError as exc:
            self._answer(message, {"error": _error(exc), "stream": name, "seq": 0})
            return True
        if ack is not None:
            self._answer(message, _acked(name, ack))
        return True

    def _store_quietly(self, message: Message, now: float) -> None:
        if (name := self._taker(message.subject)) is not None:
            self._touch(name, now)
            self._publish(name, message, now)

    def _taker(self, subject: str) -> str | None:
        return next((name for name, stream in self._has.streams.items() if stream.takes(subject)), None)

    def _publish(self, name: str, message: Message, now: float) -> Ack:
        ack = self._has.streams[name].publish(message, now)
        if not ack.duplicate:
            self._added(name, message.subject)
        return ack

    def _added(self, name: str, subject: str) -> None:
        for consumer in self._has.consumers[name].values():
            consumer.added(subject)

    def _batched(self, name: str, message: Message, now: float) -> Ack | None:
        """Keeps the messages of a batch until its last one has come."""
        batch_id, place = message.headers["Nats-Batch-Id"], int(message.headers["Nats-Batch-Sequence"])
        since, so_far = self._batches.pop(batch_id, (now, []))
        if place != len(so_far) + 1 or now - since >= _ABANDONED_SECONDS:
            raise RefusalError(refusals.INCOMPLETE_BATCH, "atomic publish batch is incomplete")
        so_far.append(message)
        if message.headers.get("Nats-Batch-Commit") != "1":
            self._batches[batch_id] = (since, so_far)
            return None
        ack = self._has.streams[name].publish_batch(batch_id, so_far, now)
        for one in so_far:
            self._added(name, one.subject)
        return ack

    def _acknowledged(self, message: Message, now: float) -> bool:
        """$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<nanoseconds>.<pending>"""
        _, _, stream, name, deliveries, seq, number, *_ = message.subject.split(".")
        consumer = self._has.consumers.get(stream, {}).get(name)
        if consumer is None:
            return False
        self._touch(stream, now)
        if consumer.answered(message.payload, int(seq), int(number), int(deliveries), now) and message.reply:
            self._out.append(Message(message.reply))
        return True

    # -- the API -------------------------------------------------------------------------------------------

    def _asked(self, call: str, message: Message, now: float) -> bool:
        """False: nobody is there for it."""
        verb, _, name = call.rpartition(".")
        if call.startswith("CONSUMER."):
            return self._asked_consumer(call, message, now)
        if verb == "DIRECT.GET":
            found = self._has.direct(name, message)
            self._out += [found] if found else []
            return found is not None
        body = _decode(message.payload or b"{}")
        calls: dict[str, Callable[[], Mapping[str, Any]]] = {
            "STREAM.CREATE": lambda: self._has.create(name, body, now),
            "STREAM.UPDATE": lambda: self._has.update(name, body, now),
            "STREAM.INFO": lambda: self._has.info(name, now),
            "STREAM.DELETE": lambda: self._has.delete(name),
            "STREAM.PURGE": lambda: self._has.purge(name, body),
            "STREAM.MSG.GET": lambda: self._has.get(name, body),
            "STREAM": lambda: {"streams": sorted(self._has.streams) or None},
            "": lambda: {"streams": len(self._has.streams)},
        }
        if (work := calls.get(verb)) is None:
            return False
        if verb in _CHANGING:
            self._touch(name, now)
        self._try(message, work)
        if verb == "STREAM.CREATE":
            self._touch(name, now)
        return True

    def _asked_consumer(self, call: str, message: Message, now: float) -> bool:
        *verb, stream, name = call.split(".")
        if verb == ["CONSUMER", "MSG", "NEXT"]:
            consumer = self._has.consumers.get(stream, {}).get(name)
            if consumer is not None:
                self._touch(stream, now)
                wish = _decode(message.payload)
                expires = now + wish["expires"] / 1e9 if wish.get("expires") else None
                consumer.pull(message.reply, wish.get("batch", 1), expires, wish.get("no_wait", False), now)
            return consumer is not None
        if verb == ["CONSUMER", "CREATE"]:
            self._touch(stream, now)
            self._try(
                message, lambda: self._has.create_consumer(stream, name, _decode(message.payload)["config"])
            )
        else:
            self._try(message, lambda: self._has.consumer_info(stream, name, now))
        return True

    def _try(self, message: Message, work: Callable[[], Mapping[str, Any]]) -> None:
        try:
            self._answer(message, work())
        except RefusalError as exc:
            self._answer(message, {"error": _error(exc)})

    def _answer(self, message: Message, body: Mapping[str, Any]) -> None:
        if message.reply:
            self._out.append(Message(message.reply, _encode(body)))


def _error(exc: RefusalError) -> Mapping[str, Any]:
    return {"code": 400, "err_code": exc.code, "description": exc.words}


def _acked(stream: str, ack: Ack) -> Mapping[str, Any]:
    body: dict[str, Any] = {"stream": stream, "seq": ack.seq}
    if ack.duplicate:
        body["duplicate"] = True
    if ack.value is not None:
        body["val"] = str(ack.value)
    if ack.batch is not None:
        body["batch"], body["count"] = ack.batch
    return body
