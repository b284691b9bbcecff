"""What is done to a system, when and to whom: a seeded list, made before anything happens, and data only.

Every pair of fault and target comes once before any comes again, so a plan that is long enough leaves out nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    KILL = "kill"  # SIGKILL
    RESTART = "restart"  # asked to end, in order
    FREEZE = "freeze"  # SIGSTOP, and SIGCONT when it is over
    BACKENDS = "backends"  # pg_terminate_backend of some of them
    CUT = "cut"  # connections of a link end, `after_bytes` further on; none can be made until it is over
    SLOW = "slow"  # what passes a link takes `delay` seconds longer
    BLACKHOLE = "blackhole"  # nothing passes, and nobody is told
    EXHAUST = "exhaust"  # PostgreSQL has no connection left for anybody
    CLOCK = "clock"  # the clock of a process shows `delay` seconds more, or less


PROCESSES: Final = ("api", "orders", "reaper", "effects", "relay", "operator")
SERVERS: Final = ("nats", "postgres")
LINKS: Final = tuple(
    f"{name}-{server}" for name in ("api", "worker", "relay", "operator") for server in SERVERS
)
CLOCKS: Final = ("api", "worker", "relay", "operator")

# Seconds that a fault lasts: mostly short, now and then longer than a request is waited for, or a reservation.
_SHORT, _LONG = (0.05, 1.5), (2.0, 8.0)
LONG_SHARE: Final = 0.3
_MOST_BYTES: Final = 30_000  # that still pass a link before it is cut: greetings, requests, batches
_SLOW_SECONDS: Final = (0.02, 0.3)  # for each piece
_JUMPS: Final = (-3600.0, -60.0, -10.0, -1.0, 1.0, 10.0, 60.0, 3600.0)

_ONCE: Final = {Kind.KILL, Kind.RESTART, Kind.BACKENDS}


@dataclass(frozen=True, slots=True)
class Fault:
    at: float  # seconds after the beginning
    kind: Kind
    target: str
    seconds: float = 0.0  # how long it lasts
    pick: float = 0.0  # which of several processes, as a share of them
    after_bytes: int = 0
    delay: float = 0.0

    @property
    def end(self) -> float:
        return self.at + self.seconds

    def __str__(self) -> str:
        more = {"for": self.seconds, "bytes": self.after_bytes, "delay": self.delay}
        told = "".join(f" {name} {value:.3g}" for name, value in more.items() if value)
        return f"{self.at:6.2f} {self.kind} {self.target}{told}"


def pairs() -> list[tuple[Kind, str]]:
    """Everything that can be done to somebody."""
    everybody = (*PROCESSES, *SERVERS)
    return [
        *((kind, target) for kind in (Kind.KILL, Kind.RESTART, Kind.FREEZE) for target in everybody),
        *((kind, link) for kind in (Kind.CUT, Kind.SLOW, Kind.BLACKHOLE) for link in LINKS),
        *((Kind.CLOCK, target) for target in CLOCKS),
        (Kind.BACKENDS, "postgres"),
        (Kind.BACKENDS, "postgres"),
        (Kind.EXHAUST, "postgres"),
    ]


def plan(
    seed: int,
    seconds: float,
    mean_pause: float,
    among: Iterable[tuple[Kind, str]] | None = None,
    long_share: float = LONG_SHARE,
) -> tuple[Fault, ...]:
    """Faults that begin within `seconds`, on average `mean_pause` seconds one after another.

    `long_share`: of those that last at all, how many last longer than a request is waited for.
    """
    chance = random.Random(seed)
    deck: list[tuple[Kind, str]] = []
    all_pairs: Sequence[tuple[Kind, str]] = pairs() if among is None else list(among)
    found: list[Fault] = []
    at = chance.expovariate(1 / mean_pause)
    while at < seconds:
        deck = deck or chance.sample(all_pairs, len(all_pairs))
        found.append(_fault(at, *deck.pop(), chance, long_share))
        at += chance.expovariate(1 / mean_pause)
    return tuple(found)


def _fault(at: float, kind: Kind, target: str, chance: random.Random, long_share: float) -> Fault:
    lasts = 0.0 if kind in _ONCE else chance.uniform(*(_LONG if chance.random() < long_share else _SHORT))
    delay = 0.0
    if kind is Kind.SLOW:
        delay = chance.uniform(*_SLOW_SECONDS)
    elif kind is Kind.CLOCK:
        delay = chance.choice(_JUMPS) * chance.uniform(0.5, 1.0)
    after_bytes = chance.randrange(_MOST_BYTES) if kind is Kind.CUT and chance.random() < 0.7 else 0
    return Fault(
        round(at, 3), kind, target, round(lasts, 3), round(chance.random(), 3), after_bytes, round(delay, 3)
    )
