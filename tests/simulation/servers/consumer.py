"""PURE. One durable pull consumer: who asks, what is in flight, when it comes again, and what is finished.

After nats-server 2.15, one server. What waits to come again is in flight too; it comes before what is new, and
`max_ack_pending` does not hold it back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import Any, Final

import msgspec
from simulation.servers.flights import Flight, State
from simulation.servers.stream import Stream
from simulation.servers.words import Message, Stored, matches_any

FLUSH_SECONDS: Final = 0.1  # the server writes a consumer's state this often: a crash forgets what came later
DEFAULTS: Final[Mapping[str, Any]] = {
    "ack_wait": 30_000_000_000, "max_deliver": -1, "max_ack_pending": 1000, "max_waiting": 512,
    "filter_subjects": [],
}  # fmt: skip
_ADVISORY: Final = "$JS.EVENT.ADVISORY.CONSUMER"
_GIVEN_UP, _ENDED = f"{_ADVISORY}.MAX_DELIVERIES", f"{_ADVISORY}.MSG_TERMINATED"


@dataclass(slots=True)
class Pull:
    inbox: str
    left: int
    once: bool  # takes what is there, and ends
    expires: float | None
    given: int = 0


class Consumer:
    """`listens` tells whether anybody still hears an inbox. Everything that it says is left in `out`."""

    def __init__(self, stream: Stream, config: Mapping[str, Any], listens: Callable[[str], bool]) -> None:
        self.config = {**DEFAULTS, **config}
        self.state = State()
        self.out: list[Message] = []
        self.pulls: deque[Pull] = deque()
        self._stream = stream
        self._listens = listens
        self._next = 1  # what may come is from here on
        self._queue: dict[int, None] = {}  # to be delivered again, in this order
        self._deadlines: list[tuple[float, int]] = []
        self._saved, self._saved_at = State(), float("-inf")
        self.pending = 0
        self.count()

    @property
    def name(self) -> str:
        return str(self.config["durable_name"])

    @property
    def _wait(self) -> float:
        return float(self.config["ack_wait"] / 1e9)

    def wants(self, subject: str) -> bool:
        filters = self.config["filter_subjects"]
        return not filters or matches_any(filters, subject)

    def count(self) -> None:
        self.pending = self._stream.count(self.config["filter_subjects"], self._next)

    # -- what happens to it --------------------------------------------------------------------------------

    def configure(self, config: Mapping[str, Any]) -> None:
        self.config = {**DEFAULTS, **config}
        self.count()

    def added(self, subject: str) -> None:
        self.pending += self.wants(subject)

    def removed(self, gone: Stored) -> None:
        """A message left the stream: it is ended where it was in flight."""
        if gone.seq >= self._next:
            self.pending -= self.wants(gone.subject)
        elif gone.seq in self.state.flying:
            self._end_gone(gone.seq, self._deliveries(gone.seq))
        else:
            self.state.again.pop(gone.seq, None)

    def _end_gone(self, seq: int, deliveries: int) -> None:
        if (flight := self.state.flying.get(seq)) is not None:
            self._finish(seq)
            self._tell(_ENDED, seq, deliveries, flight.number)

    def purged(self, first_seq: int, *, only_some: bool) -> None:
        """Everything below is gone, and counts as finished; `only_some`: more of it may be.

        What waited to come again right away comes after ack_wait: the real server forgets that it waited.
        """
        state = self.state
        self._next = max(self._next, first_seq)
        number, floor = state.floor
        if floor < first_seq:
            gone = [seq for seq in state.flying if seq < first_seq or (only_some and self._is_gone(seq))]
            number = max([number, *(state.flying[seq].number for seq in gone)])
            for seq in sorted(gone):
                state.finish(seq)
            floor = first_seq - 1
        if not state.flying:
            state.again.clear()
            number, floor = state.delivered[0], self._next - 1
        if state.floor[1] <= floor:  # what is behind what was written before is not written
            state.floor, state.delivered = (number, floor), (state.delivered[0], self._next - 1)
        waited, self._queue = self._queue, {seq: None for seq in self._queue if seq >= self._next}
        for seq in waited:
            if seq in state.flying:
                self._since(seq, state.flying[seq].since)
        self.count()

    def _is_gone(self, seq: int) -> bool:
        return seq not in self._stream.messages

    def save(self, now: float) -> None:
        """Before anything changes at this moment."""
        if now - self._saved_at >= FLUSH_SECONDS:
            self._saved, self._saved_at = self.state.copy(), now

    def restarted(self, crashed: bool) -> None:
        """Pulls are forgotten, and after a crash what was not yet written."""
        if crashed:
            self.state = self._saved.copy()
        self.pulls.clear()
        self.out.clear()
        self._queue.clear()
        state = self.state
        for seq in [seq for seq in state.flying if seq > self._stream.last_seq]:  # lost with a crash
            self._finish(seq)
        self._deadlines = sorted((flight.since + self._wait, seq) for seq, flight in state.flying.items())
        self._next = state.delivered[1] + 1
        self._saved = state.copy()
        self.count()

    # -- words about messages ------------------------------------------------------------------------------

    def answered(self, word: bytes, seq: int, number: int, deliveries: int, now: float) -> bool:
        """Notes an acknowledgement; False: one for a message that was never delivered gets no answer."""
        if word.startswith(b"-NAK"):
            if number > self.state.floor[0]:
                self._nak(seq, word[4:].strip(), now)
        elif word == b"+WPI":
            if seq in self.state.flying:
                self._since(seq, now)
        else:
            if seq >= self._next:
                return False
            self._finish(seq)
            if word.startswith(b"+TERM"):
                self._tell(_ENDED, seq, deliveries, number, word[5:].strip().decode())
        return True

    def _nak(self, seq: int, options: bytes, now: float) -> None:
        if seq not in self.state.flying:
            return
        if options:
            self._queue.pop(seq, None)
            self._since(seq, now - self._wait + msgspec.json.decode(options)["delay"] / 1e9)
        else:
            self._queue.setdefault(seq)

    def _since(self, seq: int, since: float) -> None:
        flight = replace(self.state.flying[seq], since=since)
        self.state.flying[seq] = flight
        heappush(self._deadlines, (flight.since + self._wait, seq))

    def _finish(self, seq: int) -> None:
        self._queue.pop(seq, None)
        self.state.finish(seq)

    # -- giving out ----------------------------------------------------------------------------------------

    def pull(self, inbox: str, most: int, expires: float | None, once: bool, now: float) -> None:
        """`expires`: epoch seconds."""
        waiting = self.pending + len(self._queue)
        if once and not waiting and expires is None:
            self._status(inbox, "404", "No Messages")
        elif once and 0 < waiting < sum(pull.left for pull in self._heard(now)):
            self._status(inbox, "408", "Requests Pending")
        elif len(self.pulls) >= self.config["max_waiting"]:
            self._status(inbox, "409", "Exceeded MaxWaiting")
        else:
            self.pulls.append(Pull(inbox, most, once, expires))

    def serve(self, now: float) -> None:
        """Looks at what came back too late, gives out what may be given, ends pulls that are over."""
        self._overdue(now)
        stalled = False
        while self._heard(now):
            found = self._take()
            if found is None:
                stalled = len(self.state.flying) >= self.config["max_ack_pending"] > 0
                break
            self._give(*found, now)
        for pull in list(self.pulls):
            if pull.once and not stalled and (pull.given or pull.expires is None):
                self._end(pull, "404", "No Messages")

    def waiting(self, now: float) -> int:
        return len(self._heard(now))

    def _heard(self, now: float) -> deque[Pull]:
        for pull in list(self.pulls):
            if pull.expires is not None and now >= pull.expires:
                self._end(pull, "408", "Request Timeout")
            elif not self._listens(pull.inbox):
                self.pulls.remove(pull)
        return self.pulls

    def _take(self) -> tuple[Stored, int] | None:
        while self._queue:
            seq = next(iter(self._queue))
            del self._queue[seq]
            self.state.again[seq] = self.state.again.get(seq, 0) + 1
            deliveries = self.state.again[seq] + 1
            if self._is_gone(seq):
                self._end_gone(seq, deliveries - 1)
                continue
            if 0 < self.config["max_deliver"] < deliveries:
                self._give_up(seq, deliveries - 1)
                continue
            return self._stream.messages[seq], deliveries
        if len(self.state.flying) >= self.config["max_ack_pending"] > 0:
            return None
        found = self._stream.from_seq(self._next, self.config["filter_subjects"])
        self._next = found.seq + 1 if found else self._stream.last_seq + 1
        if found is None:
            return None
        self.pending -= 1
        return found, 1

    def _give(self, found: Stored, deliveries: int, now: float) -> None:
        state, pull, seq = self.state, self.pulls.popleft(), found.seq
        number = state.delivered[0] + 1
        state.delivered = (number, max(seq, state.delivered[1]))
        state.flying.setdefault(seq, Flight(number, now))
        self._since(seq, now)
        pull.left -= 1
        pull.given += 1
        if pull.left:
            self.pulls.append(pull)  # the others first
        stream, stamp = self._stream.config["name"], round(found.at * 1e9)
        reply = f"$JS.ACK.{stream}.{self.name}.{deliveries}.{seq}.{number}.{stamp}.{self.pending}"
        self.out.append(Message(found.subject, found.payload, found.headers, reply, to=pull.inbox))

    def _give_up(self, seq: int, deliveries: int) -> None:
        """It stays in the stream; the reported floor stays below it until something is acknowledged."""
        if self.state.flying.pop(seq, None) is not None:
            self._tell(_GIVEN_UP, seq, deliveries)

    def _overdue(self, now: float) -> None:
        late = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, seq = heappop(self._deadlines)
            flight = self.state.flying.get(seq)
            if flight is None or flight.since + self._wait > now or seq in self._queue:
                continue
            late.append(seq)
        for seq in sorted(set(late)):
            if self.config["max_deliver"] == 1:
                self.state.again[seq] = 1
                self._give_up(seq, 1)
            else:
                self._queue[seq] = None
                self._since(seq, now)

    def next_at(self) -> float | None:
        """The next time at which it has something to do although nobody says anything."""
        while self._deadlines:
            when, seq = self._deadlines[0]
            flight = self.state.flying.get(seq)
            if flight is not None and flight.since + self._wait == when and seq not in self._queue:
                break
            heappop(self._deadlines)
        times = [pull.expires for pull in self.pulls if pull.expires is not None]
        return min([*times, *(when for when, _ in self._deadlines[:1])], default=None)

    def _deliveries(self, seq: int) -> int:
        return max(1, self.state.again.get(seq, 0))

    def _end(self, pull: Pull, status: str, words: str) -> None:
        self.pulls.remove(pull)
        self._status(pull.inbox, status, words)

    def _status(self, inbox: str, status: str, words: str) -> None:
        self.out.append(Message(inbox, headers={"Status": status, "Description": words}))

    def _tell(self, kind: str, seq: int, deliveries: int, number: int = 0, reason: str = "") -> None:
        stream = self._stream.config["name"]
        word = {"stream": stream, "consumer": self.name, "stream_seq": seq, "deliveries": deliveries}
        more = {"consumer_seq": number} if number else {}
        told = {**word, **more, **({"reason": reason} if reason else {})}
        self.out.append(Message(f"{kind}.{stream}.{self.name}", msgspec.json.encode(told)))
