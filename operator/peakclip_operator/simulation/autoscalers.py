"""What decides in the simulated world, and all that it may look at. Rates are orders per second, durations seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

from peakclip_operator.plan import Lag, Totals
from peakclip_operator.simulation.scenario import Scenario


class Seen(NamedTuple):
    """One look at the world. None is unknown: the source did not answer.

    `Lag` and `Totals` are what the ports of the real loop say; the rest is what a perfect collector of metrics would
    say, so that no baseline suffers from a poor one. `..._total` are counters since the beginning of the run.
    """

    lag: Lag | None
    """The consumer: `lag.ready` is num_pending, `lag.in_flight` is num_ack_pending."""
    totals: Totals | None
    """What the workers have told of themselves, once a second each; some of it late or lost."""
    delayed: int | None
    """Of those in flight, how many wait for the time of another attempt."""
    asked: int
    """The workload's `spec.replicas`."""
    existing: int
    """Workers that run or start: the workload's `status.replicas`."""
    ready: int
    """Of these, the ones that work: `status.readyReplicas`."""
    busy: float
    """Of these, how many worked on an order, on the average since the last look."""
    arrived_total: int
    started_total: int
    finished_total: int
    busy_seconds_total: float


class Autoscaler(Protocol):
    """Looked at once a tick of the scenario (half a second, or one second in a sweep).

    One that decides less often (every 15 s, every 30 s) keeps its own time and answers None in between; the phase is
    an argument of its constructor.
    """

    name: str
    limited: bool
    """Its workers obey the limiter; else nothing holds back a worker that is free."""

    def look(self, seen: Seen, now: float) -> int | None:
        """The wanted number of workers (`spec.replicas` from now on); None: nothing is changed.

        `now` in seconds since the beginning of the run.
        """
        ...


@runtime_checkable
class Paces(Protocol):
    """One that sets the rate in force, too."""

    @property
    def rate_per_second(self) -> float: ...


Maker = Callable[[Scenario], Autoscaler]
"""A new one for a run of this scenario."""
