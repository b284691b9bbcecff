"""What happened in a run: every start, every commit, and what was seen to be wrong at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol


class Clock(Protocol):
    @property
    def now(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Started:
    """Messages that started together."""

    true: float  # seconds of the run
    server: float  # epoch seconds on the server that leads, at that moment
    said: float  # epoch seconds, as the limiter said and the database keeps
    count: int


@dataclass
class Record:
    """By pool, and over all workers."""

    clock: Clock
    server_time: Callable[[], float]
    starts: dict[str, list[Started]] = field(default_factory=dict)
    commits: dict[str, Counter[int]] = field(
        default_factory=dict
    )  # message -> how often it came to be committed
    attempts: dict[str, Counter[int]] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    trace: list[str] | None = None  # None: not wanted

    def add(self, pool: str) -> None:
        self.starts[pool], self.commits[pool], self.attempts[pool] = [], Counter(), Counter()

    def note(self, words: str) -> None:
        if self.trace is not None:
            self.trace.append(f"{self.clock.now:10.6f} {words}")

    def wrong(self, words: str) -> None:
        """A promise was broken; only the first few of a run are kept."""
        self.note(f"VIOLATION {words}")
        if len(self.violations) < 20:
            self.violations.append(f"at {self.clock.now:.6f}: {words}")

    def started(self, pool: str, said: float, seqs: Sequence[int]) -> None:
        server = self.server_time()
        self.starts[pool].append(Started(self.clock.now, server, said, len(seqs)))
        self.attempts[pool].update(seqs)
        self.note(f"{pool} starts {len(seqs)} due {said:.6f}: {seqs[0]}..{seqs[-1]}")

    def committed(self, pool: str, seqs: Sequence[int]) -> None:
        """The database takes each once; that of a message that comes again changes nothing."""
        self.commits[pool].update(seqs)

    def attempts_of(self, pool: str, seq: int) -> int:
        return self.attempts[pool][seq]
