"""The rates that a decision rests on, from the counters of the observations."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from peakclip_operator.plan.observation import Lag, Observation, Totals
from peakclip_operator.plan.spec import PoolSpec
from peakclip_operator.plan.windows import Series

_SLOWER = 0.9  # less than this share of the speed before is no noise
_FULL = 0.8  # batches that hold this share of what they could are full
_STABLE_SAMPLES = 30  # in the longer window
_SETTLE_SECONDS = 3.0  # from a new batch size to telemetry of nothing else: the fence, a word, a tick


@dataclass(frozen=True, slots=True)
class Work:
    """Batches tried and busy seconds of all workers, as far as the size of their batches is known."""

    batches: Series = field(default_factory=Series)
    busy: Series = field(default_factory=Series)
    seen: Totals | None = None
    batch: int | None = None
    settled_at: float = 0.0

    def batches_per_second(self, spec: PoolSpec, now: float) -> float | None:
        """Of one worker while it works: tried / busy seconds over all workers; None with too little to tell.

        In batches, because a change of R changes their size at once and the time for one hardly at all. Failed
        attempts count: each of them takes a start from R too, and a failing database must not look like one
        that needs more workers. Worked number: 66 batches of one in 3 busy seconds are 22.0 per second.
        """
        batches = self.batches.growth(spec.worker_window_seconds, now)
        busy = self.busy.growth(spec.worker_window_seconds, now)
        if batches is None or busy is None or batches[0] <= 0 or busy[0] <= 0:
            return None
        if batches[0] < spec.min_batches and busy[0] < spec.min_busy_seconds:
            return None
        return batches[0] / busy[0]

    def observe(self, spec: PoolSpec, totals: Totals, now: float) -> Work:
        """What was done while the size of the batches changed is left out, since nobody knows in which size. So are
        batches that were not full: they take as long as full ones, and workers who find little to do would look slow,
        call for company and find even less."""
        settled_at = min(self.settled_at, now + _SETTLE_SECONDS)
        if self.batch not in (None, spec.batch):
            settled_at = now + _SETTLE_SECONDS
        before = self.seen or totals
        attempts = max(0, totals.finished + totals.failed - before.finished - before.failed)
        busy_seconds = max(0.0, totals.busy_seconds - before.busy_seconds)
        if now < settled_at or _half_empty(spec, attempts, before, totals):
            attempts, busy_seconds = 0, 0.0
        keep, gap = spec.longest_window_seconds, spec.gap_seconds
        return Work(
            batches=self.batches.grow(now, attempts / spec.batch, keep_seconds=keep, gap_seconds=gap),
            busy=self.busy.grow(now, busy_seconds, keep_seconds=keep, gap_seconds=gap),
            seen=totals,
            batch=spec.batch,
            settled_at=settled_at,
        )


def _half_empty(spec: PoolSpec, attempts: int, before: Totals, totals: Totals) -> bool:
    if before.batches is None or totals.batches is None:
        return False
    return attempts < _FULL * spec.batch * (totals.batches - before.batches)


@dataclass(frozen=True, slots=True)
class Speed:
    """The fastest that workers were seen in the last seconds of measuring, in batches per second of one worker.

    A worker is called slow only after it was slow all the time: neither a starved processor in the second of a
    burst nor a database that was away for some seconds calls for workers. Called fast it is at once. Time in
    which nothing is measured does not count, so an idle hour forgets nothing.

    When it is called slow, it is as slow as in the last moments, whose windows hold nothing of the time before: the
    older ones are of both times, and by them it would become slow in many steps, each of them a worker.
    """

    seen: tuple[tuple[float, float], ...] = ()  # falling speeds with their time on the clock below
    clock: float = 0.0  # seconds of measuring
    last_at: float | None = None

    @property
    def value(self) -> float | None:
        return self.seen[0][1] if self.seen else None

    def add(self, measured: float | None, spec: PoolSpec, now: float) -> Speed:
        if measured is None:
            return replace(self, last_at=None)
        passed = 0.0 if self.last_at is None else min(1.0, max(0.0, now - self.last_at))
        clock = self.clock + passed
        before = self.seen or ((0.0, 1 / spec.prior_batch_seconds),)
        kept = (one for one in before if one[1] > measured and one[0] > clock - spec.worker_settle_seconds)
        seen = (*kept, (clock, measured))
        if seen[0][1] < before[0][1]:
            pure = max(0.0, spec.worker_settle_seconds - spec.worker_window_seconds)
            last = tuple(one for one in seen if one[0] >= clock - pure)
            if last[0][1] < _SLOWER * seen[0][1]:
                seen = last
        return Speed(seen, clock, now)


@dataclass(frozen=True, slots=True)
class Stuck:
    """Messages that hold back the rest: delivered before, in flight again, and nothing below them finishes."""

    floor_seq: int | None = None
    since: float | None = None
    """Since when nothing was finished below a message that came again."""

    def observe(self, lag: Lag, now: float) -> Stuck:
        if lag.floor_seq is None or not lag.redelivered:
            return Stuck()
        if lag.floor_seq == self.floor_seq and self.since is not None:
            return self if self.since <= now else Stuck(lag.floor_seq, now)
        return Stuck(lag.floor_seq, now)

    def messages(self, spec: PoolSpec, lag: Lag, now: float) -> int:
        """How many of the messages in flight call for no worker more than there are."""
        held = self.since is not None and now - self.since >= spec.persistent_seconds
        return min(lag.in_flight, lag.redelivered or 0) if held else 0


@dataclass(frozen=True, slots=True)
class Counters:
    """The samples that the rates are made of."""

    arrivals: Series = field(default_factory=Series)
    stable_arrivals: Series = field(default_factory=Series)
    """The same over the longer window, with fewer samples."""
    finished: Series = field(default_factory=Series)
    work: Work = field(default_factory=Work)
    speed: Speed = field(default_factory=Speed)
    stuck: Stuck = Stuck()

    def observe(self, spec: PoolSpec, observation: Observation, now: float) -> Counters:
        """An unknown part adds nothing; when it is known again after a gap, its series start again."""
        lag, totals = observation.lag, observation.totals
        keep, gap = spec.longest_window_seconds, spec.gap_seconds
        arrivals, stable, finished, stuck = self.arrivals, self.stable_arrivals, self.finished, self.stuck
        if lag is not None:
            long = spec.stable_window_seconds
            stable = stable.add(
                now, lag.last_seq, keep_seconds=long, gap_seconds=gap, apart_seconds=long / _STABLE_SAMPLES
            )
            stuck = stuck.observe(lag, now)
            arrivals = arrivals.add(now, lag.last_seq, keep_seconds=keep, gap_seconds=gap)
            finished = finished.add(now, lag.finished_seq, keep_seconds=keep, gap_seconds=gap)
        return Counters(
            arrivals=arrivals,
            stable_arrivals=stable,
            finished=finished,
            work=self.work if totals is None else self.work.observe(spec, totals, now),
            speed=self.speed,
            stuck=stuck,
        ).measured(spec, now)

    def stable_arrival(self, spec: PoolSpec, now: float) -> float | None:
        """Per second over the longer window; None before half of it has been seen."""
        if self.stable_arrivals.covers_seconds < spec.stable_window_seconds / 2:
            return None
        return self.stable_arrivals.rate(spec.stable_window_seconds, now)

    def measured(self, spec: PoolSpec, now: float) -> Counters:
        return replace(self, speed=self.speed.add(self.work.batches_per_second(spec, now), spec, now))
