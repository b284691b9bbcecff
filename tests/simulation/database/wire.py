"""The way to the server on virtual time, and how it fails. What a process asks of a session travels there and back."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
from simulation.database.server import Server, Session

from peakclip_operator.simulation.events.broker import EPOCH
from peakclip_operator.simulation.events.kernel import Kernel, Process

_DEAD: Final = "connection was closed in the middle of operation"
Asked = Callable[[Session, Callable[[Any], None]], None]


@dataclass(slots=True)
class Faults:
    """How long one way takes, and what befalls it: chances of one in each."""

    usual_seconds: float = 0.0003
    step_seconds: float = 0.0  # of a statement or a commit, on average
    spike_chance: float = 0.0
    spike_seconds: float = 0.05
    cut_before: float = 0.0  # the connection breaks, and what was asked never arrives
    cut_after: float = 0.0  # it was done, and nobody hears of it
    swallowed: float = 0.0  # the answer never comes, and nothing says so
    terminated: float = 0.0  # the backend ends while it works
    refused: float = 0.0  # no new connection: there are too many


class Line:
    """One connection. `close` is the client's; what it waits for is answered with an error when it breaks."""

    def __init__(self, wire: Wire, process: Process, session: Session) -> None:
        self.process = process
        self.session = session
        self.is_open = True
        self._wire = wire
        self._waiting: Callable[[Any], None] | None = None
        self._latest = 0.0

    def ask(self, what: str, work: Asked, answer: Callable[[Any], None]) -> None:
        """`answer` is called in the process."""
        self._waiting = answer
        wire, faults = self._wire, self._wire.faults
        if wire.happens(faults.cut_before):
            self._travel(None, self.broken)
            return
        self._travel(None, self._arrived, what, work)

    def _arrived(self, what: str, work: Asked) -> None:
        self._wire.trace(f"postgres {self.process.name} {what}")
        if not self.session.alive:
            return self.broken()
        if self._wire.happens(self._wire.faults.terminated):
            delay = self._wire.chance.random() * 0.01
            self._wire.kernel.at(self._wire.kernel.now + delay, None, self._wire.terminate, self)
        work(self.session, self._answered)

    def _answered(self, value: Any) -> None:
        wire, faults = self._wire, self._wire.faults
        if wire.happens(faults.swallowed):
            return
        if wire.happens(faults.cut_after):
            wire.server.leave(self.session)
            return self.broken()
        self._travel(self.process, self._heard, value)

    def _heard(self, value: Any) -> None:
        answer, self._waiting = self._waiting, None
        if answer is not None and self.is_open:
            answer(value)

    def _travel(self, process: Process | None, call: Callable[..., None], *args: Any) -> None:
        self._latest = max(self._latest, self._wire.kernel.now + self._wire.delay())
        if self._wire.holes:
            self._latest = max(self._latest, self._wire.holes.get((self.process.name, process is None), 0.0))
        self._wire.kernel.at(self._latest, process, call, *args)

    def broken(self) -> None:
        """Its server's end has gone, whatever the reason: the client hears of it at once."""
        if self.session.alive:
            self._wire.server.leave(self.session)
        self._wire.kernel.at(self._wire.kernel.now, self.process, self._lost)

    def _lost(self) -> None:
        if not self.is_open:
            return
        self.is_open = False
        self._wire.forget(self)
        answer, self._waiting = self._waiting, None
        if answer is not None:
            answer(asyncpg.ConnectionDoesNotExistError(_DEAD))

    def close(self) -> None:
        """The client's end; an open transaction is rolled back, what is under way goes on to its end."""
        if not self.is_open:
            return
        self.is_open, self._waiting = False, None
        self._wire.forget(self)
        self._travel(None, self._left)

    def _left(self) -> None:
        if self.session.alive:
            self._wire.server.cancel(self.session)
            self._wire.server.leave(self.session)


class Wire:
    def __init__(self, kernel: Kernel, chance: random.Random, faults: Faults | None = None) -> None:
        self.kernel = kernel
        self.chance = chance
        self.faults = faults or Faults()
        self.up = True
        self.server = Server(self.now, self._later, self._takes)
        self.lines: list[Line] = []
        self.holes: dict[tuple[str, bool], float] = {}  # until when nothing of a process passes, on this way
        self.trace: Callable[[str], None] = lambda _: None  # told of what reaches the server

    def now(self) -> float:
        return EPOCH + self.kernel.now

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self.kernel.at(self.kernel.now + seconds, None, call)

    def _takes(self) -> float:
        mean = self.faults.step_seconds
        return mean * 2 * self.chance.random() if mean else 0.0

    def delay(self) -> float:
        faults, seconds = self.faults, self.faults.usual_seconds * (0.5 + self.chance.random())
        if faults.spike_chance and self.chance.random() < faults.spike_chance:
            seconds += faults.spike_seconds * 2 * self.chance.random()
        return seconds

    def happens(self, chance: float) -> bool:
        return bool(chance) and self.chance.random() < chance

    def connect(self, process: Process) -> Line:
        """At once: the caller waits for the round trips. Raises what asyncpg raises."""
        if not self.up:
            raise ConnectionRefusedError("connection refused")
        if self.happens(self.faults.refused):
            raise asyncpg.TooManyConnectionsError("sorry, too many clients already")
        line = Line(self, process, self.server.open())
        self.lines.append(line)
        return line

    def forget(self, line: Line) -> None:
        if line in self.lines:
            self.lines.remove(line)

    # -- what befalls it -----------------------------------------------------------------------------------

    def terminate(self, line: Line) -> None:
        self.server.terminate(line.session)
        line.broken()

    def crash(self) -> None:
        self.up = False
        self.server.crash()
        for line in list(self.lines):
            line.broken()

    def start(self) -> None:
        self.up = True

    def killed(self, process: Process) -> None:
        """Its sockets are closed by the kernel of its machine."""
        for line in [one for one in self.lines if one.process is process]:
            self.forget(line)
            line.is_open = False
            line._travel(None, self._gone, line.session)

    def _gone(self, session: Session) -> None:
        if session.alive:
            self.server.leave(session)
