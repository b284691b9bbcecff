"""The four rates that a decision rests on, from the counters of the observations."""

from __future__ import annotations

from dataclasses import dataclass, field

from peakclip_operator.plan.observation import Observation, Totals
from peakclip_operator.plan.spec import PoolSpec
from peakclip_operator.plan.windows import Series

_CHANGED = 2.0  # a worker this many times faster or slower than in the long window has changed for good
_SETTLE_SECONDS = 3.0  # from a new batch size to telemetry of nothing else: the fence, a word, a tick


@dataclass(frozen=True, slots=True)
class Work:
    """Batches tried and busy seconds of all workers, as far as the size of their batches is known."""

    batches: Series = field(default_factory=Series)
    busy: Series = field(default_factory=Series)
    seen: Totals | None = None
    batch: int | None = None
    settled_at: float = 0.0

    def observe(self, spec: PoolSpec, totals: Totals, now: float) -> Work:
        """What was done while the size of the batches changed is left out, since nobody knows in which size."""
        settled_at = self.settled_at
        if self.batch not in (None, spec.batch):
            settled_at = now + _SETTLE_SECONDS
        before = self.seen or totals
        attempts = max(0, totals.finished + totals.failed - before.finished - before.failed)
        busy_seconds = max(0.0, totals.busy_seconds - before.busy_seconds)
        if now < settled_at:
            attempts, busy_seconds = 0, 0.0
        keep, gap = spec.stable_window_seconds, spec.gap_seconds
        return Work(
            batches=self.batches.grow(now, attempts / spec.batch, keep_seconds=keep, gap_seconds=gap),
            busy=self.busy.grow(now, busy_seconds, keep_seconds=keep, gap_seconds=gap),
            seen=totals,
            batch=spec.batch,
            settled_at=settled_at,
        )


@dataclass(frozen=True, slots=True)
class Counters:
    """The samples that the rates are made of."""

    arrivals: Series = field(default_factory=Series)
    finished: Series = field(default_factory=Series)
    work: Work = field(default_factory=Work)

    def observe(self, spec: PoolSpec, observation: Observation, now: float) -> Counters:
        """An unknown part adds nothing; when it is known again after a gap, its series start again."""
        lag, totals = observation.lag, observation.totals
        keep, gap = spec.stable_window_seconds, spec.gap_seconds
        arrivals, finished = self.arrivals, self.finished
        if lag is not None:
            arrivals = arrivals.add(now, lag.last_seq, keep_seconds=keep, gap_seconds=gap)
            finished = finished.add(now, lag.finished_seq, keep_seconds=keep, gap_seconds=gap)
        return Counters(
            arrivals=arrivals,
            finished=finished,
            work=self.work if totals is None else self.work.observe(spec, totals, now),
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
        batches = self.work.batches.growth(window_seconds, now)
        busy = self.work.busy.growth(window_seconds, now)
        if batches is None or busy is None or batches[0] <= 0 or busy[0] <= 0:
            return None
        if batches[0] < spec.min_batches and busy[0] < spec.min_busy_seconds:
            return None
        return batches[0] / busy[0]
