"""The Horizontal Pod Autoscaler, for one External metric with an AverageValue: the lag of a consumer.

Read in kubernetes 1.35.4: pkg/controller/podautoscaler/horizontal.go (reconcileAutoscaler, normalizeDesiredReplicas,
stabilizeRecommendation, the same two with behaviors, calculateScaleUpLimit), replica_calculator.go
(GetExternalPerPodMetricReplicas), pkg/apis/autoscaling/v2/defaults.go.

A sync comes a moment more than sync_seconds after the one before, since it is queued again when that has ended: what
is exactly a window old has left the window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

Moment = tuple[float, int]  # seconds, workers
LONGEST = 120  # changes that the longest period of a policy, 1800 s, can hold at one each 15 s


@dataclass(frozen=True, slots=True)
class Policy:
    """At most `value` workers, or per cent of the workers, in period_seconds."""

    kind: Literal["Pods", "Percent"]
    value: int
    period_seconds: float


@dataclass(frozen=True, slots=True)
class Rules:
    """One direction of a `behavior`."""

    policies: tuple[Policy, ...]
    window_seconds: float
    """Stabilization: the lowest (up) or highest (down) recommendation of this time counts."""
    select: Literal["Max", "Min", "Disabled"] = "Max"
    """Which policy counts: the one with the largest change, or the smallest."""


UP = Rules((Policy("Pods", 4, 15.0), Policy("Percent", 100, 15.0)), window_seconds=0.0)
DOWN = Rules((Policy("Percent", 100, 15.0),), window_seconds=300.0)


@dataclass(frozen=True, slots=True)
class Behavior:
    """`spec.behavior`; a direction that is not given has its defaults, which differ from having no behavior."""

    up: Rules = UP
    down: Rules = DOWN


@dataclass(frozen=True, slots=True)
class HpaSettings:
    """Defaults of kube-controller-manager and of autoscaling/v2."""

    threshold: int
    """Lag for each worker (AverageValue)."""
    minimum: int = 1
    maximum: int = 100
    tolerance: float = 0.1
    """No change while the lag for each worker is this near to the threshold."""
    downscale_window_seconds: float = 300.0
    """Without a behavior: the highest recommendation of this time counts."""
    behavior: Behavior | None = None


def proposal(lag: int, threshold: int, workers: int, tolerance: float) -> int:
    """Workers for this lag: 105 with threshold 10 are 11 for 4 workers, and stay 10 for 10 (a ratio of 1.05).

    No workers yet (the first one of 0 -> 1 is not there) is a ratio without bound: the tolerance says nothing.
    """
    if workers and 1 - tolerance <= lag / (threshold * workers) <= 1 + tolerance:
        return workers
    return math.ceil(lag / threshold)


def old_limit(current: int) -> int:
    """The most that one sync may go up to without a behavior: 4 from 1 and 2, 8 from 4, 16 from 8."""
    return max(2 * current, 4)


def changed(events: list[Moment], period_seconds: float, now: float) -> int:
    return sum(workers for at, workers in events if now - at < period_seconds)


@dataclass(slots=True)
class Hpa:
    """One object; `sync` is what its controller does every 15 s."""

    settings: HpaSettings
    _recommendations: list[Moment] = field(default_factory=list, init=False)
    _ups: list[Moment] = field(default_factory=list, init=False)
    _downs: list[Moment] = field(default_factory=list, init=False)

    def sync(self, lag: int | None, current: int, existing: int, now: float) -> int:
        """Workers wished for from now on; `current` is spec.replicas, `existing` is status.replicas."""
        settings = self.settings
        if not self._recommendations:
            self._recommendations.append((now, current))
        if current == 0:
            return 0  # switched off, until somebody else makes it 1
        if current > settings.maximum:
            wanted = settings.maximum
        elif current < settings.minimum:
            wanted = settings.minimum
        elif lag is None:
            return current
        else:
            proposed = proposal(lag, settings.threshold, existing, settings.tolerance)
            if settings.behavior is None:
                wanted = self._without_behavior(proposed, current, now)
            else:
                wanted = self._with_behavior(proposed, current, settings.behavior, now)
        if wanted > current:
            self._ups = [*self._ups[-LONGEST:], (now, wanted - current)]
        elif wanted < current:
            self._downs = [*self._downs[-LONGEST:], (now, current - wanted)]
        return wanted

    def _without_behavior(self, proposed: int, current: int, now: float) -> int:
        """The highest recommendation of the window, in bounds. It goes on upwards when the lag is gone."""
        window = self.settings.downscale_window_seconds
        stable = max(proposed, self._highest(window, now, proposed))
        self._remember(proposed, window, now)
        most = min(self.settings.maximum, old_limit(current))
        return min(max(stable, self.settings.minimum), most)

    def _with_behavior(self, proposed: int, current: int, behavior: Behavior, now: float) -> int:
        """What is now, unless every recommendation of the window is above, or below."""
        up, down = behavior.up, behavior.down
        recent = [n for at, n in self._recommendations if now - at < up.window_seconds]
        lowest = min([proposed, *recent])
        highest = self._highest(down.window_seconds, now, proposed)
        self._remember(proposed, max(up.window_seconds, down.window_seconds), now)
        stable = min(max(current, lowest), highest)
        if stable > current:
            limit = max(self._limit_up(up, current, now), current)
            return min(stable, self.settings.maximum, limit)
        if stable < current:
            limit = min(self._limit_down(down, current, now), current)
            return max(stable, self.settings.minimum, limit)
        return current

    def _highest(self, window_seconds: float, now: float, proposed: int) -> int:
        return max([proposed, *(n for at, n in self._recommendations if now - at < window_seconds)])

    def _remember(self, proposed: int, window_seconds: float, now: float) -> None:
        self._recommendations = [one for one in self._recommendations if now - one[0] < window_seconds]
        self._recommendations.append((now, proposed))

    def _limit_up(self, rules: Rules, current: int, now: float) -> int:
        """From 4 workers, since 15 s: 4 pods allow 8, and 100 % the same."""
        if rules.select == "Disabled":
            return current
        limits = []
        for policy in rules.policies:
            start = self._at_start(policy, current, now)
            grown = start * (1 + policy.value / 100)
            limits.append(start + policy.value if policy.kind == "Pods" else math.ceil(grown))
        return min(limits) if rules.select == "Min" else max(limits)

    def _limit_down(self, rules: Rules, current: int, now: float) -> int:
        if rules.select == "Disabled":
            return current
        limits = []
        for policy in rules.policies:
            start = self._at_start(policy, current, now)
            limits.append(
                start - policy.value if policy.kind == "Pods" else int(start * (1 - policy.value / 100))
            )
        return max(limits) if rules.select == "Min" else min(limits)

    def _at_start(self, policy: Policy, current: int, now: float) -> int:
        """Workers at the start of the policy's period."""
        period = policy.period_seconds
        return current - changed(self._ups, period, now) + changed(self._downs, period, now)
