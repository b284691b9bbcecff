"""The servers as the limiter knows them: the ticket counters, the pace, a clock, and the ways in which they fail.

Requests are worked on one after the other, at the moment at which they arrive. Times of this module are true
seconds; what is written and answered is the epoch time of the server that leads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from peakclip.errors import RefusedError
from peakclip.jetstream import (
    NAME_IN_USE,
    STREAM_NOT_FOUND,
    WRONG_LAST_SEQUENCE,
    PubAck,
    StoredMessage,
    StreamState,
)
from peakclip.topology import STREAMS, TICKETS
from peakclip_operator.simulation.events.kernel import Kernel
from peakclip_operator.simulation.events.queue import Queue

EPOCH: Final = 1_700_000_000.0  # of true second 0
_FORGOTTEN_SECONDS: Final = STREAMS[TICKETS]["max_age"] / 1e9


@dataclass(frozen=True, slots=True)
class ServerTime:
    """How the clock of one server differs from true time."""

    ahead: float = 0.0  # seconds
    drift: float = 0.0  # seconds gained per second

    def at(self, true: float) -> float:
        return EPOCH + true + self.ahead + self.drift * true


@dataclass(slots=True)
class _Tickets:
    created: float
    last_seq: int = 0
    counters: dict[str, tuple[int, float]] = field(default_factory=dict)  # subject -> sum, when (true)


class Broker:
    """One server or a cluster: `clocks` has one entry for each server that may lead."""

    def __init__(self, kernel: Kernel, clocks: list[ServerTime]) -> None:
        self._kernel = kernel
        self._clocks = clocks
        self.leader = 0
        self.pace_leader = 0
        self.connected = True  # False: its machine is down, every connection is lost
        self.answers = True  # False: nobody leads, requests are lost
        self.frozen_until = 0.0  # requests are worked on then
        self.queues: dict[str, Queue] = {}
        self.paces: dict[str, list[StoredMessage]] = {}  # subject -> every version
        self.lost_link: list[Callable[[], None]] = []  # told when every connection is lost
        self.granted = 0
        self._pace_seq = 0
        self._tickets: _Tickets | None = _Tickets(self.now())

    def now(self) -> float:
        """Epoch seconds on the leader of the tickets."""
        return self._clocks[self.leader].at(self._kernel.now)

    @property
    def has_tickets(self) -> bool:
        return self._tickets is not None

    # -- how it fails --------------------------------------------------------------------------------------

    def forget_tickets(self) -> None:
        """A server that is alone was restarted, or somebody deleted the stream."""
        self._tickets = None

    def lose_memory(self, least: float = 0) -> None:
        """The only server with the counters was restarted in a cluster: the stream keeps the time of its creation.

        Not before it has given `least` answers: the limiter knows the loss by the sequence numbers, and does not
        promise to know it where more tickets are taken before the next look than there ever were (docs/adr, 3).
        """
        if self._tickets is not None and self._tickets.last_seq >= least:
            self._tickets = _Tickets(self._tickets.created)

    def go_down(self) -> None:
        self.connected = False
        for told in list(self.lost_link):
            told()

    # -- what it answers -----------------------------------------------------------------------------------

    def stream_state(self, stream: str) -> StreamState:
        if stream != TICKETS or self._tickets is None:
            raise RefusedError(STREAM_NOT_FOUND, "stream not found")
        now = self.now()
        return StreamState(
            len(self._tickets.counters), 0, 1, self._tickets.last_seq, now, {}, self._tickets.created
        )

    def create_stream(self, name: str) -> None:
        if name != TICKETS or self._tickets is not None:
            raise RefusedError(NAME_IN_USE, "stream name already in use")
        self._tickets = _Tickets(self.now())

    def increment(self, subject: str, delta: int) -> PubAck:
        tickets = self._tickets
        if tickets is None:
            raise RefusedError(STREAM_NOT_FOUND, "no stream takes this subject")
        before, at = tickets.counters.get(subject, (0, self._kernel.now))
        if self._kernel.now - at >= _FORGOTTEN_SECONDS:
            before = 0
        tickets.last_seq += 1
        tickets.counters[subject] = (before + delta, self._kernel.now)
        self.granted += delta
        return PubAck(tickets.last_seq, value=before + delta)

    def last_message(self, subject: str) -> StoredMessage | None:
        versions = self.paces.get(subject)
        return versions[-1] if versions else None

    def put(self, subject: str, value: bytes, revision: int | None) -> int:
        """A key of the bucket, by compare-and-set if a revision is given (0: only if there is none)."""
        versions = self.paces.setdefault(subject, [])
        newest = versions[-1].seq if versions else 0
        if revision is not None and revision != newest:
            raise RefusedError(WRONG_LAST_SEQUENCE, "wrong last sequence")
        self._pace_seq += 1
        at = self._clocks[self.pace_leader].at(self._kernel.now)
        versions.append(StoredMessage(self._pace_seq, subject, value, {}, at))
        return self._pace_seq
