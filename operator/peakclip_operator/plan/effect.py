"""Did the last scale-up bring throughput? One that did not is taken back, and none is tried for a while.

    attempt ──▶ the new workers work, and a window has passed ──▶ as promised: forget it
                                                              └─▶ in vain: back to the number before, blocked

Until then there are at most twice as many as before: workers who starve each other look slower the more there are, and
call for ever more. Judged only where nothing else explains it: a backlog all the time, less than R, every new worker at
work, the same R.
Worked numbers: 6 workers do 60/s and R is 100. 10 would do 100/s, so 4 more promise 40/s. They bring 2/s, less than a
tenth: 6 again for 60 s; the next time in vain 120 s, and so on up to 15 minutes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from peakclip_operator.plan.spec import PoolSpec

ON_PACE = 0.98  # a drain below this share of R is short of it
_LONGEST_STARTS = 5.0  # times the usual time: who has not come by then does not come soon
_FEWEST = 30  # messages in the window of a drain that is to be compared
_BATCHES = 3.0  # batches of one worker in it
_SURE_SECONDS = 1.0  # telemetry and counters are this late


@dataclass(frozen=True, slots=True)
class Attempt:
    at: float
    before: int
    after: int
    drain: float
    """Per second, with `before` workers."""
    rate: float
    """R in force."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is to judge by at one tick."""

    drain: float | None
    rate: float
    backlog: bool
    speed: float
    """Of a worker, in batches per second."""
    blind: bool
    """That is the first guess, and there are workers for whom somebody had a reason that is forgotten."""
    ready: int | None
    start_seconds: float
    now: float


@dataclass(frozen=True, slots=True)
class Trials:
    """What became of the scale-ups so far."""

    attempt: Attempt | None = None
    most: int | None = None
    """More workers than this were in vain."""
    until: float = 0.0
    """So long no other try."""
    rate: float = 0.0
    """R in force when they were."""
    block_seconds: float = 0.0
    """How long the last block was; 0: none in vain since one that helped."""
    full_since: float | None = None
    """Since when there has been a backlog without a break."""
    calm_since: float | None = None
    """Since when there has been none without a break."""
    speed: float | None = None
    """What a worker was taken for when it began, in batches per second; None: nobody can say."""

    def bound(self, now: float) -> tuple[str, int] | None:
        """The number that is not to be exceeded now, with its name: what was in vain, or what is being tried."""
        if self.most is not None and now < self.until:
            return "ineffective", self.most
        attempt = self.attempt
        return None if attempt is None else ("trial", max(attempt.after, 2 * attempt.before))

    def interrupted(self) -> Trials:
        """Nobody has looked for a while; what was found before stays."""
        return replace(self, attempt=None, full_since=None, speed=None)

    def least_speed(self, spec: PoolSpec, now: float) -> float:
        """No worker counts as slower than this. In the first moments of a backlog it is not known what those who are
        there can do together, and that more of them would do more."""
        if self.full_since is None or self.speed is None or not spec.effect.enabled:
            return 0.0
        return self.speed if now - self.full_since < spec.panic_window_seconds else 0.0

    def seen(self, spec: PoolSpec, scene: Scene) -> Trials:
        """Before the decision: what has become of the attempt."""
        if not spec.effect.enabled:
            return Trials()
        trials = self._current(spec, scene)
        if not scene.backlog:
            calm = scene.now if trials.calm_since is None else min(trials.calm_since, scene.now)
            return replace(trials.interrupted(), calm_since=calm)
        trials = replace(trials, calm_since=None)
        if self.full_since is None:
            trials = replace(trials, full_since=scene.now, speed=None if scene.blind else scene.speed)
        elif self.full_since > scene.now:
            trials = replace(trials, full_since=scene.now)
        attempt = trials.attempt
        if attempt is None:
            return trials
        if attempt.rate != scene.rate or scene.now < attempt.at:
            return replace(trials, attempt=None)
        seen_after = attempt.at + scene.start_seconds + spec.panic_window_seconds + _SURE_SECONDS
        if scene.now < seen_after or scene.drain is None:
            return trials
        if scene.ready is not None and scene.ready < attempt.after:
            patience = attempt.at + _LONGEST_STARTS * scene.start_seconds + spec.panic_window_seconds
            return trials if scene.now < patience else replace(trials, attempt=None)
        return trials.judged(spec, attempt, scene.drain, scene.now)

    def _current(self, spec: PoolSpec, scene: Scene) -> Trials:
        """Without what a much higher R, a long calm or a clock that was set back have made of no account. Shares move a
        little all the time: what would not be worth a worker is no reason to try again."""
        until = min(self.until, scene.now + self.block_seconds)
        if self.most is not None and scene.rate > self.rate * (1 + spec.effect.least_share):
            return replace(self, most=None, until=min(until, scene.now))
        calm = self.calm_since if not scene.backlog else None
        if calm is not None and scene.now - max(until, calm) > spec.effect.longest_block_seconds:
            return replace(self, most=None, until=0.0, rate=0.0, block_seconds=0.0)
        return self if until == self.until else replace(self, until=until)

    def judged(self, spec: PoolSpec, attempt: Attempt, drain: float, now: float) -> Trials:
        promised = min(attempt.rate, attempt.drain / attempt.before * attempt.after) - attempt.drain
        gained = drain - attempt.drain
        if drain >= ON_PACE * attempt.rate or gained >= spec.effect.least_share * promised:
            return Trials(full_since=self.full_since, speed=self.speed)
        doubled = max(spec.effect.block_seconds, 2 * self.block_seconds)
        block = min(spec.effect.longest_block_seconds, doubled)
        return replace(
            self, attempt=None, most=attempt.before, until=now + block, rate=attempt.rate, block_seconds=block
        )

    def decided(self, spec: PoolSpec, scene: Scene, before: int, after: int) -> Trials:
        """After the decision: a scale-up is an attempt if it is known what there was before it."""
        if after < before:
            return replace(self, attempt=None)
        if after == before or not spec.effect.enabled:
            return self
        if self.attempt is not None:
            return replace(self, attempt=replace(self.attempt, at=scene.now, after=after))
        window = spec.panic_window_seconds
        full = self.full_since is not None and scene.now - self.full_since >= window
        if not full or not before or scene.drain is None or scene.drain >= ON_PACE * scene.rate:
            return self
        if scene.drain * window < _FEWEST or _BATCHES / scene.speed > window:
            return self  # so few that chance decides, or so slow that a window holds none
        return replace(self, attempt=Attempt(scene.now, before, after, scene.drain, scene.rate))
