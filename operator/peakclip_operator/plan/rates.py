"""The four rates that a decision rests on, from the counters of the observations."""

from __future__ import annotations

from dataclasses import dataclass, field

from peakclip_operator.plan.observation import Lag, Observation, Totals
from peakclip_operator.plan.spec import PoolSpec
from peakclip_operator.plan.windows import Series

_CHANGED = 2.0  # a worker this many times faster or slower than in the long window has changed for good


@dataclass(frozen=True, slots=True)
class Counters:
    """The samples that the rates are made of."""

    arrivals: Series = field(default_factory=Series)
    finished: Series = field(default_factory=Series)
    attempts_seen: int = 0
    batches: Series = field(default_factory=Series)
    busy: Series = field(default_factory=Series)

    def observe(self, spec: PoolSpec, observation: Observation, now: float) -> Counters:
        """An unknown part adds nothing; when it is known again after a gap, its series start again."""
        keep, gap = spec.stable_window_seconds, spec.gap_seconds

        def add(series: Series, value: float) -> Series:
            return series.add(now, value, keep_seconds=keep, gap_seconds=gap)

        lag: Lag | None = observation.lag
        totals: Totals | None = observation.totals
        attempts = totals.finished + totals.failed if totals else self.attempts_seen
        batches = self.batches.samples[-1][1] if self.batches.samples else 0.0
        return Counters(
            arrivals=add(self.arrivals, lag.last_seq) if lag else self.arrivals,
            finished=add(self.finished, lag.finished_seq) if lag else self.finished,
            attempts_seen=attempts,
            batches=add(self.batches, batches + max(0, attempts - self.attempts_seen) / spec.batch)
            if totals
            else self.batches,
            busy=add(self.busy, totals.busy_seconds) if totals else self.busy,
        )

    def batches_per_second(self, spec: PoolSpec, now: float) -> float | None:
        """True rate of one worker, in batches: tried / busy seconds over all workers; None with too little to tell.

        In batches, because a change of R changes their size at once and the time for one hardly at all. Failed
        attempts count: each of them takes a start from R too, and a failing database must not look like one
        that needs more workers. Seen over the stable window, unless the last seconds differ from it by more
        than twice. Worked number: 990 batches of one in 45 busy seconds are 22.0 per second.
        """
        stable = self._batches_per_busy_second(spec, spec.stable_window_seconds, now)
        recent = self._batches_per_busy_second(spec, spec.panic_window_seconds, now)
        if stable is None or recent is None:
            return recent or stable
        return stable if 1 / _CHANGED <= recent / stable <= _CHANGED else recent

    def _batches_per_busy_second(self, spec: PoolSpec, window_seconds: float, now: float) -> float | None:
        batches = self.batches.growth(window_seconds, now)
        busy = self.busy.growth(window_seconds, now)
        if batches is None or busy is None or batches[0] <= 0 or busy[0] <= 0:
            return None
        if batches[0] < spec.min_batches and busy[0] < spec.min_busy_seconds:
            return None
        return batches[0] / busy[0]
