"""The workers as a platform runs them: counts, not objects. Times in seconds since the beginning of the run."""

from __future__ import annotations

import heapq
import random
from math import inf

from peakclip_operator.simulation.scenario import Scenario

_READY, _GONE, _CRASH = 0, 1, 2
_JITTER = 0.2  # one start takes so much shorter or longer than the mean, as a share
_PARTS = 4  # groups in which those of one moment become ready


class Fleet:
    """Keeps as many workers as were asked for: who dies is started again, who cannot be started is waited for."""

    def __init__(self, scenario: Scenario, rng: random.Random) -> None:
        self._scenario = scenario
        self._rng = rng
        self.asked = scenario.min_replicas
        self.ready = scenario.min_replicas
        self.starting = 0
        self.draining = 0
        self._hung = 0  # of those that start, these never will
        self._no_room = 0  # these wait for room
        self._called_off = 0  # starts under way that nobody wants any more
        self._events: list[tuple[float, int, int]] = [(at, _CRASH, count) for at, count in scenario.crashes]
        heapq.heapify(self._events)

    @property
    def existing(self) -> int:
        return self.ready + self.starting

    @property
    def next_event(self) -> float:
        return self._events[0][0] if self._events else inf

    def scale(self, asked: int, now: float) -> None:
        self.asked = asked
        fewer = self.existing - asked
        if fewer < 0:
            self._start(-fewer, now)
        elif fewer > 0:
            self._give_back(fewer, now)

    def pass_events(self, now: float) -> int:
        """What is due by now happens. Returns how many workers died."""
        died = 0
        while self._events and self._events[0][0] <= now:
            _, kind, count = heapq.heappop(self._events)
            if kind == _READY:
                called_off = min(count, self._called_off)
                self._called_off -= called_off
                self.starting -= count - called_off
                self.ready += count - called_off
            elif kind == _GONE:
                self.draining -= count
                self._make_room(now)
            else:
                died += self.crash(count, now)
        return died

    def crash(self, count: int, now: float) -> int:
        """So many at most die now, and start again."""
        count = min(count, self.ready)
        self.ready -= count
        if count:
            self._start(count, now)
        return count

    def _start(self, count: int, now: float) -> None:
        self.starting += count
        if self._scenario.fits is not None:
            room = self._scenario.fits - (self.existing + self.draining - count - self._no_room)
            left_out = count - max(0, min(count, room))
            self._no_room += left_out
            count -= left_out
        if self._scenario.never_start:
            hung = sum(self._rng.random() < self._scenario.never_start for _ in range(count))
            self._hung += hung
            count -= hung
        parts = min(count, _PARTS)
        for part in range(parts):
            share = (part + self._rng.random()) / parts  # of the way from the fastest to the slowest
            took = self._scenario.start_seconds * (1 + _JITTER * (2 * share - 1))
            some = count * (part + 1) // parts - count * part // parts
            heapq.heappush(self._events, (now + took, _READY, some))

    def _give_back(self, count: int, now: float) -> None:
        """First those that do not work yet, the ones without hope before the others."""
        for name in ("_no_room", "_hung"):
            gone = min(count, getattr(self, name))
            setattr(self, name, getattr(self, name) - gone)
            self.starting -= gone
            count -= gone
        gone = min(count, self.starting - self._no_room - self._hung)
        self._called_off += gone
        self.starting -= gone
        count -= gone
        if count:
            self.ready -= count
            self.draining += count
            heapq.heappush(self._events, (now + self._scenario.drain_seconds, _GONE, count))

    def _make_room(self, now: float) -> None:
        if self._no_room:
            waiting, self._no_room = self._no_room, 0
            self.starting -= waiting
            self._start(waiting, now)
