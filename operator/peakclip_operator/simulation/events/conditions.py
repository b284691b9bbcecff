"""What happens in a run: as plain data, written by hand for a test or drawn from a seed (`draw`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from peakclip.limiter import grid
from peakclip_operator.simulation.events.broker import ServerTime


class Kind(StrEnum):
    """What can happen, and the meaning of `value`."""

    JOIN = "a worker joins"
    TERM = "a worker is asked to end (SIGTERM)"
    KILL = "a worker is killed (SIGKILL)"
    STOP = "a worker stands still (SIGSTOP) for `value` seconds"
    SLOW = "the way to the server takes `value` seconds more for `lasts` seconds"
    HOLD = "the way from who sets the pace takes `value` seconds more for `lasts` seconds"
    FORGET = "the ticket stream is deleted"
    REPLACE = "the ticket stream is deleted and made again at once, before anybody has noticed"
    MEMORY = "the server of the tickets loses its memory, and the stream keeps the time of its creation"
    DOWN = "the server is restarted: away for `value` seconds, and its tickets are gone"
    ELECT = "the leader is gone for `value` seconds, then the next server leads"
    FREEZE = "the server stands still for `value` seconds and then works on what has come"
    RATE = "the rate becomes `value`"
    EFFECTIVE = "the effective rate becomes `value`, at most the limit"
    PAUSE = "the pool is paused"
    RESUME = "the pause is over"
    ARRIVE = "`value` messages come at once"


@dataclass(frozen=True, slots=True)
class Happening:
    at: float  # seconds
    kind: Kind
    value: float = 0.0
    lasts: float = 0.0
    who: int = 0  # number of a worker that lives, modulo their number; -1: all
    lane: int = 0

    @property
    def words(self) -> str:
        what = self.kind.replace("`value`", f"{self.value:g}").replace("`lasts`", f"{self.lasts:g}")
        return f"{what} (lane {self.lane + 1}, {'all' if self.who < 0 else self.who})"


@dataclass(frozen=True, slots=True)
class Lane:
    """A pool; the rates of several add up to R."""

    name: str
    rate: float
    workers: int
    burst: int | None = None  # None: the default of the rate
    messages: int = 1_000  # that wait at the beginning
    work_seconds: float = 0.005
    fail_chance: float = 0.0

    @property
    def chunk(self) -> int:
        burst = grid.default_burst(self.rate) if self.burst is None else self.burst
        return grid.chunk(grid.rate_milli(self.rate), burst)


@dataclass(frozen=True, slots=True)
class Conditions:
    seed: int
    seconds: float
    lanes: tuple[Lane, ...]
    happenings: tuple[Happening, ...] = ()
    latency: float = 0.0003  # one way, seconds
    spike_chance: float = 0.0  # that a message takes up to twice `spike` longer
    spike: float = 0.05
    lateness: float = 0.0003  # of a process that is due, on average
    stall_chance: float = 0.0  # that it is late by up to twice `stall`
    stall: float = 0.1
    drift: float = 0.0  # of the workers' clocks, seconds per second, both ways
    servers: tuple[ServerTime, ...] = field(default=(ServerTime(),))
    pace_server: int = 0  # leads the bucket of the pace

    @property
    def calm(self) -> bool:
        """Nothing is wrong with machines and network as such."""
        return (
            self.spike_chance == 0
            and self.stall_chance == 0
            and self.latency <= 0.003
            and self.lateness <= 0.003
        )

    @property
    def clocks_apart(self) -> float:
        """By how many seconds the clock that starts go by may jump when another server leads."""
        ahead = [server.ahead for server in self.servers]
        return max(ahead) - min(ahead)
