"""PURE. What a server holds: streams, their consumers and followers; and what its API does with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from simulation.servers.consumer import Consumer
from simulation.servers.follower import Follower
from simulation.servers.refusals import RefusalError
from simulation.servers.stream import Stream, normal
from simulation.servers.words import Message, Stored, header_block, matches, written

from peakclip.jetstream import CONSUMER_NOT_FOUND, NAME_IN_USE, NO_MESSAGE_FOUND, STREAM_NOT_FOUND


class Holdings:
    """Consumers by their stream and their name, followers by their stream and their inbox."""

    def __init__(self, listens: Callable[[str], bool]) -> None:
        self._listens = listens
        self.streams: dict[str, Stream] = {}
        self.consumers: dict[str, dict[str, Consumer]] = {}
        self.followers: dict[str, dict[str, Follower]] = {}

    def _stream(self, name: str) -> Stream:
        if (stream := self.streams.get(name)) is None:
            raise RefusalError(STREAM_NOT_FOUND, "stream not found")
        return stream

    def create(self, name: str, config: Mapping[str, Any], now: float) -> Mapping[str, Any]:
        there = self.streams.get(name)
        if there is None:
            stream = self.streams[name] = Stream(config, now)
            self.consumers[name], self.followers[name] = {}, {}
            stream.removed = lambda gone: self._removed(name, gone)
        elif there.config != normal(config):
            raise RefusalError(NAME_IN_USE, "stream name already in use with a different configuration")
        return self.info(name, now)

    def _removed(self, name: str, gone: Stored) -> None:
        for consumer in self.consumers[name].values():
            consumer.removed(gone)

    def update(self, name: str, config: Mapping[str, Any], now: float) -> Mapping[str, Any]:
        self._stream(name).config = normal(config)
        return self.info(name, now)

    def delete(self, name: str) -> Mapping[str, Any]:
        self._stream(name)
        del self.streams[name], self.consumers[name], self.followers[name]
        return {"success": True}

    def info(self, name: str, now: float) -> Mapping[str, Any]:
        stream = self._stream(name)
        state = {
            "messages": len(stream.messages),
            "bytes": stream.size_bytes,
            "first_seq": stream.first_seq,
            "last_seq": stream.last_seq,
        }
        return {
            "config": stream.config,
            "created": written(stream.created),
            "state": state,
            "ts": written(now),
        }

    def purge(self, name: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        stream, subject = self._stream(name), body.get("filter", "")
        purged = stream.purge_below(body.get("seq") or stream.last_seq + 1, subject)
        left = stream.from_seq(1, [subject] if subject else ())
        for consumer in self.consumers[name].values():
            filters = consumer.config["filter_subjects"]
            if not subject or (filters and all(matches(subject, one) for one in filters)):
                consumer.purged(left.seq if left else stream.last_seq + 1, only_some=False)
            elif consumer.wants(subject):
                consumer.purged(stream.first_seq, only_some=True)
            else:
                consumer.count()
        return {"success": True, "purged": purged}

    def get(self, name: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        stream = self._stream(name)
        if "last_by_subj" in body:
            found = stream.last(body["last_by_subj"])
        else:
            found = stream.from_seq(body["seq"], [body.get("next_by_subj", ">")])
        if found is None:
            raise RefusalError(NO_MESSAGE_FOUND, "no message found")
        block = {"hdrs": header_block(found.headers)} if found.headers else {}
        return {
            "message": {
                "subject": found.subject, "seq": found.seq, "data": found.payload, "time": written(found.at), **block,
            }
        }  # fmt: skip

    def direct(self, name: str, message: Message) -> Message | None:
        """One message by subject, from a place on, and how many there are after it; None: nobody is there for it."""
        stream = self.streams.get(name)
        if stream is None or not stream.config.get("allow_direct"):
            return None
        body = msgspec.json.decode(message.payload)
        wanted = [body["next_by_subj"]]
        found = stream.from_seq(body["seq"], wanted)
        if found is None:
            headers = {"Status": "404", "Description": "Message Not Found"}
            return Message(message.reply, headers=headers)
        after = {
            "Nats-Num-Pending": str(stream.count(wanted, found.seq) - 1),
            "Nats-Sequence": str(found.seq),
        }
        return Message(message.reply, found.payload, {**found.headers, **after})

    def create_consumer(self, stream: str, name: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
        self._stream(stream)
        if (inbox := config.get("deliver_subject")) is not None:
            place = (stream, inbox, config["opt_start_seq"], config["filter_subject"])
            self.followers[stream][inbox] = Follower(self.streams[stream], *place, self._listens)
        elif name in self.consumers[stream]:
            self.consumers[stream][name].configure(config)
        else:
            self.consumers[stream][name] = Consumer(self.streams[stream], config, self._listens)
        return {"stream_name": stream, "name": name}

    def consumer_info(self, stream: str, name: str, now: float) -> Mapping[str, Any]:
        self._stream(stream)
        consumer = self.consumers[stream].get(name)
        if consumer is None:
            raise RefusalError(CONSUMER_NOT_FOUND, "consumer not found")
        state = consumer.state
        return {
            "num_pending": consumer.pending,
            "num_ack_pending": len(state.flying),
            "num_redelivered": len(state.again),
            "num_waiting": consumer.waiting(now),
            "ack_floor": {"consumer_seq": state.floor[0], "stream_seq": state.floor[1]},
            "delivered": {"consumer_seq": state.delivered[0], "stream_seq": state.delivered[1]},
        }
