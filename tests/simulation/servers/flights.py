"""PURE. What a consumer has given out and how far it has come: all of it that is kept over a restart."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Flight:
    number: int  # of its first delivery, counted over all messages
    since: float


@dataclass(slots=True)
class State:
    delivered: tuple[int, int] = (0, 0)  # number of the last delivery; the highest sequence ever delivered
    floor: tuple[int, int] = (0, 0)  # everything up to here is finished
    flying: dict[int, Flight] = field(default_factory=dict)
    again: dict[int, int] = field(default_factory=dict)  # sequence -> deliveries after the first

    def copy(self) -> State:
        return State(self.delivered, self.floor, dict(self.flying), dict(self.again))

    def finish(self, seq: int) -> None:
        """The floor moves to before the oldest that is in flight, once the one right above it is finished."""
        flight = self.flying.pop(seq, None)
        self.again.pop(seq, None)
        if flight is None:
            return
        if not self.flying:
            self.floor = self.delivered
        elif flight.number == self.floor[0] + 1:
            self.floor = (flight.number, seq)
            for later in range(seq + 1, self.delivered[1] + 1):
                if later in self.flying:
                    self.floor = (self.flying[later].number - 1, later - 1)
                    break
