"""PURE. One consumer that is pushed to and forgotten with the server: what an API process follows a log with."""

from __future__ import annotations

from collections.abc import Callable

from simulation.servers.stream import Stream
from simulation.servers.words import Message


class Follower:
    """Everything from a sequence on, in order, as long as anybody hears it."""

    def __init__(
        self, stream: Stream, name: str, inbox: str, seq: int, subject: str, listens: Callable[[str], bool]
    ) -> None:
        self.out: list[Message] = []
        self._stream = stream
        self._name = name
        self._inbox = inbox
        self._next = seq
        self._subject = subject
        self._listens = listens
        self._number = 0

    def serve(self, now: float) -> None:
        if not self._listens(self._inbox):
            return
        while (found := self._stream.from_seq(self._next, [self._subject])) is not None:
            self._next = found.seq + 1
            self._number += 1
            stamp = round(found.at * 1e9)
            reply = f"$JS.ACK.{self._name}.{self._inbox.rpartition('.')[2]}.1.{found.seq}.{self._number}.{stamp}.0"
            self.out.append(Message(found.subject, found.payload, found.headers, reply, to=self._inbox))
        self._next = max(self._next, self._stream.last_seq + 1)
