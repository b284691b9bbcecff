"""A stream and its durable pull consumer: what waits, what is in flight, and when it comes again.

After nats-server: a pull with `no_wait` takes what is there and ends, or, when nothing is, waits for its time; what
is not acknowledged within `ack_wait` comes again, before what is new; an acknowledgement ends a message whichever
of its deliveries it belongs to, a nak or a word of progress only the newest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from peakclip.topology import ACK_WAIT_SECONDS
from peakclip_operator.simulation.events.kernel import Kernel


class Link(Protocol):
    """The connection to one worker, seen from the server."""

    def deliver(self, inbox: str, messages: Sequence[Delivery], status: str | None) -> None:
        """Sends messages, and after them the line that ends the pull."""


@dataclass(frozen=True, slots=True)
class Delivery:
    seq: int
    delivered: int  # which delivery of the message this is, from 1 on
    stored_at: float  # true seconds


@dataclass(slots=True)
class _Flight:
    delivered: int
    deadline: float  # true seconds


@dataclass(slots=True)
class _Pull:
    link: Link
    inbox: str
    most: int
    open: bool = True


class Queue:
    """Sequence numbers begin at 1."""

    def __init__(self, kernel: Kernel, name: str) -> None:
        self._kernel = kernel
        self.name = name
        self.stored: list[float] = []  # when each message was stored, true seconds
        self.finished: set[int] = set()  # acknowledged
        self.changes: list[tuple[float, bool]] = [(0.0, False)]  # from when on something was waiting, or not
        self.redeliveries = 0
        self._next = 1
        self._again: deque[int] = deque()
        self._flights: dict[int, _Flight] = {}
        self._delivered: dict[int, int] = {}  # deliveries of those that were in flight before
        self._pulls: deque[_Pull] = deque()

    @property
    def waiting(self) -> int:
        return len(self.stored) - self._next + 1 + len(self._again)

    @property
    def unfinished(self) -> int:
        return len(self.stored) - len(self.finished)

    def add(self, count: int) -> None:
        self.stored += [self._kernel.now] * count
        self._serve()

    def pull(self, link: Link, inbox: str, most: int, expires: float) -> None:
        pull = _Pull(link, inbox, most)
        if self.waiting:
            self._give(pull)
            return
        self._pulls.append(pull)
        self._kernel.at(self._kernel.now + expires, None, self._expire, pull)

    def forget(self, link: Link) -> None:
        """The connection is gone, and with it its pulls."""
        for pull in self._pulls:
            if pull.link is link:
                pull.open = False

    def ack(self, seq: int) -> None:
        self._flights.pop(seq, None)
        self.finished.add(seq)

    def nak(self, seq: int, delivered: int, delay: float) -> None:
        flight = self._flights.get(seq)
        if flight is None or flight.delivered != delivered:
            return
        self._kernel.at(self._kernel.now + delay, None, self._return, seq, delivered)

    def in_progress(self, seq: int, delivered: int) -> None:
        flight = self._flights.get(seq)
        if flight is not None and flight.delivered == delivered:
            flight.deadline = self._kernel.now + ACK_WAIT_SECONDS

    def _expire(self, pull: _Pull) -> None:
        if pull.open:
            pull.open = False
            pull.link.deliver(pull.inbox, (), "408")

    def _serve(self) -> None:
        while self.waiting and self._pulls:
            pull = self._pulls.popleft()
            if pull.open:
                pull.open = False
                self._give(pull)
        self._note()

    def _give(self, pull: _Pull) -> None:
        now = self._kernel.now
        batch: list[Delivery] = []
        while self.waiting and len(batch) < pull.most:
            seq = self._take()
            if seq is None:
                break
            number = self._delivered[seq] = self._delivered.get(seq, 0) + 1
            self.redeliveries += number > 1
            self._flights[seq] = _Flight(number, now + ACK_WAIT_SECONDS)
            batch.append(Delivery(seq, number, self.stored[seq - 1]))
        if batch:
            self._kernel.at(now + ACK_WAIT_SECONDS, None, self._look_after, tuple(batch))
        pull.link.deliver(pull.inbox, batch, None if len(batch) == pull.most else "404")
        self._note()

    def _take(self) -> int | None:
        while self._again:
            seq = self._again.popleft()
            if seq not in self.finished:
                return seq
        if self._next > len(self.stored):
            return None
        self._next += 1
        return self._next - 1

    def _look_after(self, batch: tuple[Delivery, ...]) -> None:
        """Those of a batch whose time is up come again; the others are looked after later."""
        left: list[Delivery] = []
        for one in batch:
            flight = self._flights.get(one.seq)
            if flight is None or flight.delivered != one.delivered:
                continue
            if flight.deadline <= self._kernel.now:
                self._return(one.seq, one.delivered)
            else:
                left.append(one)
        if left:
            first = min(self._flights[one.seq].deadline for one in left)
            self._kernel.at(first, None, self._look_after, tuple(left))

    def _return(self, seq: int, delivered: int) -> None:
        flight = self._flights.get(seq)
        if flight is None or flight.delivered != delivered:
            return
        del self._flights[seq]
        self._again.append(seq)
        self._serve()

    def _note(self) -> None:
        there = self.waiting > 0
        if self.changes[-1][1] != there:
            self.changes.append((self._kernel.now, there))
