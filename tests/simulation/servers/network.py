"""The server of the model on virtual time, and the ways to it: connections, delays, and how each of them fails.

Both directions of a connection keep their order, as TCP does. What was on its way when it broke is lost.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from simulation.servers.server import Server
from simulation.servers.words import Message, matches

from peakclip_operator.simulation.events.broker import EPOCH
from peakclip_operator.simulation.events.kernel import Kernel, Process

_JUST_WRITTEN_SECONDS: Final = 0.05  # what a stream that is written later may lose in a crash


@dataclass(slots=True)
class Faults:
    """How long a message takes one way, and what befalls it: chances of one in each."""

    usual_seconds: float = 0.0003
    spike_chance: float = 0.0
    spike_seconds: float = 0.05
    request_lost: float = 0.0  # nobody works on it, and nobody says so
    answer_lost: float = 0.0  # it was worked on
    cut: float = 0.0  # the connection breaks, before or after the request was worked on


class End(Protocol):
    """A connection, seen from the network."""

    process: Process
    epoch: int  # grows when the connection breaks: what was sent before arrives no more

    def lost(self) -> None: ...

    def received(self, subscription: int, message: Message) -> None: ...


@dataclass(frozen=True, slots=True)
class _Heard:
    end: End
    number: int
    pattern: str


class _Ears:
    """Who hears a subject, by what can be looked up: the subject itself, or all of it but the last token."""

    def __init__(self) -> None:
        self._by_place: dict[str, list[_Heard]] = {}
        self._others: list[_Heard] = []

    def add(self, heard: _Heard) -> None:
        self._list(heard.pattern).append(heard)

    def _list(self, pattern: str) -> list[_Heard]:
        if "*" not in pattern.removesuffix(".*") and ">" not in pattern:
            return self._by_place.setdefault(pattern, [])
        return self._others

    def of(self, subject: str) -> list[_Heard]:
        found = [
            *self._by_place.get(subject, ()),
            *self._by_place.get(f"{subject.rpartition('.')[0]}.*", ()),
        ]
        if self._others:
            found += [one for one in self._others if matches(one.pattern, subject)]
        return found

    def drop(self, goes: Callable[[_Heard], bool]) -> None:
        for heard in (self._others, *self._by_place.values()):
            heard[:] = [one for one in heard if not goes(one)]
        self._by_place = {pattern: heard for pattern, heard in self._by_place.items() if heard}


class Network:
    """One server, and everybody's connections to it. `server` may be looked into."""

    def __init__(self, kernel: Kernel, chance: random.Random, faults: Faults | None = None) -> None:
        self.kernel = kernel
        self.chance = chance
        self.faults = faults or Faults()
        self.up = True
        self.server = Server(self._listens)
        self._heard = _Ears()
        self._ends: list[End] = []
        self._last: dict[tuple[int, bool], float] = {}  # when the latest message of a direction arrives
        self._awake_at = float("inf")
        self.holes: dict[tuple[str, bool], float] = {}  # until when nothing of a process passes, on this way

    def now(self) -> float:
        """Epoch seconds of the server."""
        return EPOCH + self.kernel.now

    # -- what befalls it -----------------------------------------------------------------------------------

    def crash(self) -> None:
        """Nothing is answered until `start`. A killed server forgets what it had not yet written."""
        self.up = False
        lost = self.chance.uniform(0, _JUST_WRITTEN_SECONDS)
        self.server.restart(self.now(), crashed=True, lost_seconds=lost)
        self.cut_all()

    def stop(self) -> None:
        """In order: all is written first."""
        self.up = False
        self.server.restart(self.now())
        self.cut_all()

    def start(self) -> None:
        self.up = True
        self._wake()

    def cut_all(self) -> None:
        for end in list(self._ends):
            self.cut(end)

    def cut(self, end: End) -> None:
        self.forget(end)
        end.lost()

    # -- connections ---------------------------------------------------------------------------------------

    def join(self, end: End) -> None:
        self._ends.append(end)

    def forget(self, end: End) -> None:
        self._ends = [one for one in self._ends if one is not end]
        self._heard.drop(lambda one: one.end is end)

    def killed(self, process: Process) -> None:
        """Its sockets are closed by the kernel of its machine; what it sent a moment ago may still arrive."""
        for end in [one for one in self._ends if one.process is process]:
            self.kernel.at(self.kernel.now + self._delay(), None, self.forget, end)

    def send(self, end: End, message: Message) -> None:
        if not end.process.alive:
            return
        self._travel(end, True, None, self._arrived, end, end.epoch, message)

    def subscribe(self, end: End, number: int, pattern: str) -> None:
        self._travel(end, True, None, self._subscribed, end.epoch, _Heard(end, number, pattern))

    def unsubscribe(self, end: End, number: int) -> None:
        self._travel(end, True, None, self._unsubscribed, end, number)

    def _travel(
        self, end: End, there: bool, process: Process | None, callback: Callable[..., object], *args: object
    ) -> None:
        place = (id(end), there)
        at = max(self._last.get(place, 0.0), self.kernel.now + self._delay())
        if self.holes:
            at = max(at, self.holes.get((end.process.name, there), 0.0))
        self._last[place] = at
        self.kernel.at(at, process, callback, *args)

    def _delay(self) -> float:
        faults, seconds = self.faults, self.faults.usual_seconds * (0.5 + self.chance.random())
        if faults.spike_chance and self.chance.random() < faults.spike_chance:
            seconds += faults.spike_seconds * 2 * self.chance.random()
        return seconds

    def _happens(self, chance: float) -> bool:
        return bool(chance) and self.chance.random() < chance

    # -- at the server -------------------------------------------------------------------------------------

    def _subscribed(self, epoch: int, heard: _Heard) -> None:
        if self.up and epoch == heard.end.epoch:
            self._heard.add(heard)

    def _unsubscribed(self, end: End, number: int) -> None:
        self._heard.drop(lambda one: one.end is end and one.number == number)

    def _listens(self, subject: str) -> bool:
        return bool(self._heard.of(subject))

    def _arrived(self, end: End, epoch: int, message: Message) -> None:
        if not self.up or epoch != end.epoch:
            return
        is_request = ".request." in message.reply
        if is_request and self._happens(self.faults.request_lost):
            return
        cut = is_request and self._happens(self.faults.cut)
        if cut and self.chance.random() < 0.5:
            self.cut(end)
            return
        self._route(self.server.receive(message, self.now()))
        if cut:
            self.cut(end)
        self._wake()

    def _route(self, messages: list[Message]) -> None:
        for message in messages:
            if ".request." in message.target and self._happens(self.faults.answer_lost):
                continue
            for one in self._heard.of(message.target):
                self._travel(one.end, False, one.end.process, self._back, one, one.end.epoch, message)

    def _back(self, heard: _Heard, epoch: int, message: Message) -> None:
        if epoch == heard.end.epoch:
            heard.end.received(heard.number, message)

    def _wake(self) -> None:
        """The server's own clock: it is looked at when it next has something to do."""
        due = self.server.next_at()
        if due is None:
            return
        at = max(due - EPOCH, self.kernel.now)
        if at < self._awake_at:
            self._awake_at = at
            self.kernel.at(at, None, self._advance, at)

    def _advance(self, at: float) -> None:
        if at != self._awake_at:
            return
        self._awake_at = float("inf")
        if self.up:
            self._route(self.server.advance(self.now()))
            self._wake()
