"""PURE. One stream: what it takes, refuses, remembers and forgets. `now` is the server's epoch seconds.

After nats-server 2.15, one server: the order of the checks decides which code a message with several faults gets.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from simulation.servers import refusals
from simulation.servers.refusals import RefusalError
from simulation.servers.words import SCHEDULE, Message, Stored, due_at, header_block, matches, matches_any

from peakclip.jetstream import DUPLICATE_IN_BATCH, WRONG_LAST_SEQUENCE

MOST_IN_A_BATCH: Final = 1000

_ID: Final = "Nats-Msg-Id"
_EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
_INCREMENT: Final = "Nats-Incr"
_TARGET: Final = "Nats-Schedule-Target"
_ROLLUP: Final = "Nats-Rollup"
_NOT_DELIVERED: Final = ("Nats-Schedule", "Nats-Expected-", _ID, "Nats-TTL", _ROLLUP)
_TIMER_SECONDS: Final = 0.25  # the server looks at its schedules no sooner than this after one was stored

DEFAULTS: Final[Mapping[str, Any]] = {
    "subjects": [], "storage": "file", "retention": "limits", "discard": "old", "max_msgs": -1, "max_bytes": -1,
    "max_age": 0, "max_msgs_per_subject": -1, "max_msg_size": -1, "duplicate_window": 120_000_000_000,
    "num_replicas": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ack:
    seq: int
    duplicate: bool = False
    value: int | None = None
    batch: tuple[str, int] | None = None  # its id, and how many there were


class Stream:
    """`removed` is told of every message that is no longer there."""

    def __init__(self, config: Mapping[str, Any], now: float) -> None:
        self.config = normal(config)
        self.created = now
        self.first_seq = 0  # as long as there was none
        self.last_seq = 0
        self.size_bytes = 0
        self.messages: dict[int, Stored] = {}  # in the order of their sequences
        self.removed: Callable[[Stored], None] = lambda _: None
        self._by_subject: dict[str, list[int]] = {}
        self._ids: dict[str, tuple[int, float]] = {}  # sequence and when it was stored, oldest first
        self._schedules: dict[str, tuple[float, int]] = {}  # when it is due, and its sequence

    @property
    def in_memory(self) -> bool:
        return bool(self.config["storage"] == "memory")

    def takes(self, subject: str) -> bool:
        return matches_any(self.config["subjects"], subject)

    # -- writing -------------------------------------------------------------------------------------------

    def publish(self, message: Message, now: float) -> Ack:
        """Stores one message, or raises RefusalError."""
        self._check(message)
        if (known := self._known(message, now)) is not None:
            return Ack(known, duplicate=True)
        payload, value = self._counted(message)
        self._room_for([message], payload)
        return Ack(self._store(message, payload, now), value=value)

    def publish_batch(self, batch_id: str, messages: Sequence[Message], now: float) -> Ack:
        """Stores all or none."""
        if not self.config.get("allow_atomic"):
            raise RefusalError(refusals.NO_BATCHES, "atomic publish is disabled")
        if len(messages) > MOST_IN_A_BATCH:
            raise RefusalError(
                refusals.TOO_LARGE_BATCH, f"atomic publish batch is too large: {MOST_IN_A_BATCH}"
            )
        seen: set[str] = set()
        for message in messages:
            self._check(message)
            own = message.headers.get(_ID)
            if self._known(message, now) is not None or own in seen:
                raise RefusalError(DUPLICATE_IN_BATCH, "atomic publish batch contains duplicate message id")
            if own:
                seen.add(own)
        self._room_for(messages)
        for message in messages:
            self._store(message, message.payload, now)
        return Ack(self.last_seq, batch=(batch_id, len(messages)))

    def _check(self, message: Message) -> None:
        headers, config = message.headers, self.config
        increment, expected = headers.get(_INCREMENT), headers.get(_EXPECTED)
        if increment is not None and not config.get("allow_msg_counter"):
            raise RefusalError(refusals.NO_COUNTERS, "message counters is disabled")
        if increment is not None and message.payload:
            raise RefusalError(refusals.INCREMENT_WITH_PAYLOAD, "message counter has payload")
        if increment is not None and (expected is not None or _ROLLUP in headers):
            raise RefusalError(refusals.WRONG_INCREMENT, "message counter increment is invalid")
        if expected is not None and int(expected) != (newest := self._newest(message.subject)):
            raise RefusalError(WRONG_LAST_SEQUENCE, f"wrong last sequence: {newest}")
        if SCHEDULE in headers:
            self._check_schedule(message)

    def _check_schedule(self, message: Message) -> None:
        if not self.config.get("allow_msg_schedules"):
            raise RefusalError(refusals.NO_SCHEDULES, "message schedules is disabled")
        if due_at(message.headers) is None:
            raise RefusalError(refusals.WRONG_SCHEDULE, "message schedules pattern is invalid")
        target = message.headers.get(_TARGET, "")
        if target in ("", message.subject) or not self.takes(target):
            raise RefusalError(refusals.WRONG_TARGET, "message schedules target is invalid")

    def _known(self, message: Message, now: float) -> int | None:
        """The sequence under which its id is remembered."""
        window = self.config["duplicate_window"] / 1e9
        while self._ids:
            oldest = next(iter(self._ids))
            if now - self._ids[oldest][1] < window:
                break
            del self._ids[oldest]
        known = self._ids.get(message.headers.get(_ID, ""))
        return known[0] if known else None

    def _counted(self, message: Message) -> tuple[bytes, int | None]:
        if not self.config.get("allow_msg_counter"):
            return message.payload, None
        if (increment := message.headers.get(_INCREMENT)) is None:
            raise RefusalError(refusals.NO_INCREMENT, "message counter increment is missing")
        last = self.last(message.subject)
        before = int(msgspec.json.decode(last.payload)["val"]) if last else 0
        value = before + int(increment)
        return b'{"val":"%d"}' % value, value

    def _room_for(self, messages: Sequence[Message], payload: bytes | None = None) -> None:
        config, size = self.config, 0
        for message in messages:
            body = message.payload if payload is None else payload
            if 0 <= config["max_msg_size"] < len(header_block(message.headers)) + len(body):
                raise RefusalError(refusals.TOO_LARGE, "message size exceeds maximum allowed")
            size += self._size(message.subject, message.headers, body)
        if config["discard"] == "new":
            if 0 < config["max_msgs"] < len(self.messages) + len(messages):
                raise RefusalError(refusals.FULL, "maximum messages exceeded")
            if 0 < config["max_bytes"] < self.size_bytes + size:
                raise RefusalError(refusals.FULL, "maximum bytes exceeded")

    def _store(self, message: Message, payload: bytes, now: float) -> int:
        headers = message.headers
        due = due_at(headers)
        if due is not None:
            headers = {**headers, _ROLLUP: "sub"}
        self.last_seq += 1
        self.first_seq = self.first_seq or 1
        stored = Stored(self.last_seq, message.subject, payload, headers, now)
        self._put(stored)
        if due is not None:
            self._schedules[message.subject] = (max(due, now + _TIMER_SECONDS), stored.seq)
        if headers.get(_ROLLUP) == "sub":
            self._keep_newest(message.subject, 1)
        self._limit(message.subject)
        return stored.seq

    def _put(self, stored: Stored) -> None:
        self.messages[stored.seq] = stored
        insort(self._by_subject.setdefault(stored.subject, []), stored.seq)
        self.size_bytes += self._size(stored.subject, stored.headers, stored.payload)
        if own := stored.headers.get(_ID):
            self._ids[own] = (stored.seq, stored.at)

    def _limit(self, subject: str) -> None:
        config = self.config
        if config["max_msgs_per_subject"] > 0:
            self._keep_newest(subject, config["max_msgs_per_subject"])
        while 0 < config["max_msgs"] < len(self.messages) or 0 < config["max_bytes"] < self.size_bytes:
            self.remove(self.first_seq)

    def _keep_newest(self, subject: str, most: int) -> None:
        for seq in self._by_subject[subject][:-most]:
            self.remove(seq)

    # -- reading -------------------------------------------------------------------------------------------

    def last(self, subject: str) -> Stored | None:
        """The newest of a subject; wildcards allowed."""
        newest = self._newest(subject)
        return self.messages[newest] if newest else None

    def _newest(self, subject: str) -> int:
        if "*" in subject or ">" in subject:
            found = (seqs[-1] for name, seqs in self._by_subject.items() if matches(subject, name))
            return max(found, default=0)
        seqs = self._by_subject.get(subject)
        return seqs[-1] if seqs else 0

    def from_seq(self, seq: int, subjects: Sequence[str] = ()) -> Stored | None:
        """The first with this sequence or a higher one, of these subjects (none given: of any)."""
        for at in range(max(seq, self.first_seq), self.last_seq + 1):
            found = self.messages.get(at)
            if found is not None and (not subjects or matches_any(subjects, found.subject)):
                return found
        return None

    def count(self, subjects: Sequence[str], seq: int = 1) -> int:
        return sum(
            len(seqs) - bisect_left(seqs, seq)
            for name, seqs in self._by_subject.items()
            if not subjects or matches_any(subjects, name)
        )

    # -- forgetting ----------------------------------------------------------------------------------------

    def remove(self, seq: int) -> None:
        self.removed(self._drop(seq))

    def _drop(self, seq: int) -> Stored:
        gone = self.messages.pop(seq)
        seqs = self._by_subject[gone.subject]
        seqs.remove(seq)
        if not seqs:
            del self._by_subject[gone.subject]
        self.size_bytes -= self._size(gone.subject, gone.headers, gone.payload)
        if self._schedules.get(gone.subject, (0.0, 0))[1] == seq:
            del self._schedules[gone.subject]
        while self.first_seq <= self.last_seq and self.first_seq not in self.messages:
            self.first_seq += 1
        return gone

    def purge_below(self, seq: int, subject: str = "") -> int:
        """Returns how many there were; tells nobody. Ids are remembered after it, until a restart."""
        older = (self.messages.get(at) for at in range(self.first_seq, min(seq, self.last_seq + 1)))
        gone = [one.seq for one in older if one and (not subject or matches(subject, one.subject))]
        for one in gone:
            self._drop(one)
        return len(gone)

    # -- as time goes by -----------------------------------------------------------------------------------

    def next_at(self) -> float | None:
        """When the next message is too old, or the next schedule due."""
        times = [due for due, _ in self._schedules.values()]
        if self.config["max_age"] and self.messages:
            times.append(self.messages[self.first_seq].at + self.config["max_age"] / 1e9)
        return min(times, default=None)

    def due(self, now: float) -> Iterator[Message]:
        """Removes what is too old; gives what schedules deliver. Publishing it ends its schedule."""
        while self.config["max_age"] and self.messages:
            if now < self.messages[self.first_seq].at + self.config["max_age"] / 1e9:
                break
            self.remove(self.first_seq)
        for _, subject, (_, seq) in sorted(
            (seq, subject, (when, seq)) for subject, (when, seq) in self._schedules.items() if when <= now
        ):
            one = self.messages[seq]
            kept = {key: value for key, value in one.headers.items() if not key.startswith(_NOT_DELIVERED)}
            headers = {**kept, "Nats-Scheduler": subject, "Nats-Schedule-Next": "purge"}
            yield Message(one.headers[_TARGET], one.payload, headers)
            self.remove(seq)

    def restarted(self, now: float, lost_seconds: float = 0.0) -> None:
        """What is remembered is read from the messages again. `lost_seconds`: what was not yet on the disk."""
        if self.config.get("persist_mode") == "async":
            for seq in [one.seq for one in self.messages.values() if one.at > now - lost_seconds]:
                self.remove(seq)
            self.last_seq = max(self.messages, default=max(0, self.first_seq - 1))
        messages = list(self.messages.values())
        self.messages, self._by_subject, self._ids, self._schedules, self.size_bytes = {}, {}, {}, {}, 0
        for one in messages:
            self._put(one)
            if (when := due_at(one.headers)) is not None:
                self._schedules[one.subject] = (max(when, now + _TIMER_SECONDS), one.seq)

    def _size(self, subject: str, headers: Mapping[str, str], payload: bytes) -> int:
        block = len(header_block(headers))
        if self.in_memory:
            return 16 + len(subject) + block + len(payload)
        return 30 + len(subject) + (block + 4 if block else 0) + len(payload)


def normal(config: Mapping[str, Any]) -> dict[str, Any]:
    """With the server's defaults."""
    return {**DEFAULTS, **config}
