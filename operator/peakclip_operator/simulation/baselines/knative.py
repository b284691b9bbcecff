"""Knative's autoscaler (KPA) on concurrency.

Read in knative/serving 1.23 (98e5ef9, 2026-08-21): pkg/autoscaler/scaling/autoscaler.go (Scale), multiscaler.go
(tickInterval, Poke), pkg/autoscaler/config/config.go (defaults), pkg/autoscaler/metrics/collector.go,
pkg/activator/handler/concurrency_reporter.go, pkg/reconciler/autoscaling/kpa/{kpa,scaler}.go (handleScaleToZero),
pkg/reconciler/autoscaling/resources/target.go.

How a queue is its concurrency: a request that no pod has room for waits in the activator (or the pod's queue-proxy),
open, and the reporter counts open requests, whether they wait or are worked on. An order in the stream is such a
request. So concurrency is the lag: what waits and what is in flight. The activator holds 10,000 requests and then
answers 503, and clients time out; a stream does neither, which is in Knative's favour here. By default Knative
takes a pod for one that works on many requests at once (70 of 100); a worker that does one order at a time is what
containerConcurrency 1 says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from peakclip_operator.simulation.autoscalers import Seen
from peakclip_operator.simulation.baselines.buckets import Buckets
from peakclip_operator.simulation.baselines.outstanding import outstanding
from peakclip_operator.simulation.baselines.timer import Timer

TARGET_MIN = 0.01  # autoscaling.TargetMin


@dataclass(frozen=True, slots=True)
class KnativeSettings:
    """Defaults of config-autoscaler; times in seconds."""

    container_concurrency: int = 0
    """Requests that a pod works on at once. 0: no bound, and `target_default` is aimed at."""
    target_default: float = 100.0
    target_fraction: float = 0.7
    stable_seconds: int = 60
    panic_percent: float = 10.0
    """The panic window, of the stable one."""
    panic_threshold: float = 2.0
    """Panic when the panic window wants that many times the ready workers."""
    up_rate: float = 1000.0
    down_rate: float = 2.0
    """Most that one tick multiplies or divides the ready workers by."""
    burst_capacity: float = 211.0
    """Spare concurrency below which the activator is in the path."""
    zero_grace_seconds: float = 30.0
    """The activator has to be in the path for that long, or the pool idle, before the last worker goes."""
    minimum: int = 0
    maximum: int = 0
    """0: no bound."""
    tick_seconds: float = 2.0

    @property
    def total(self) -> float:
        return float(self.container_concurrency or self.target_default)

    @property
    def target(self) -> float:
        """Concurrency for each worker: 70 by default, 0.7 with containerConcurrency 1."""
        return max(self.total * self.target_fraction, TARGET_MIN)


@dataclass(slots=True)
class Decider:
    """The formula with its panic. `scale` is one tick; None without data."""

    settings: KnativeSettings
    stable: Buckets = field(init=False)
    panic: Buckets = field(init=False)
    _panic_since: float | None = field(default=None, init=False)
    _panic_most: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        stable = self.settings.stable_seconds
        self.stable = Buckets(stable)
        self.panic = Buckets(max(round(stable * self.settings.panic_percent / 100), 1))

    def begin(self, ready: int, now: float) -> None:
        """A new autoscaler over more than one worker panics, or it would scale down before it has a history."""
        if ready > 1:
            self._panic_since, self._panic_most = now, ready

    def record(self, now: float, concurrency: float) -> None:
        self.stable.record(now, concurrency)
        self.panic.record(now, concurrency)

    def scale(self, ready: int, now: float) -> int | None:
        """Concurrency 3000 and target 70 are 43 workers; 21 ready ones or fewer make that a panic (43/21 >= 2)."""
        settings = self.settings
        if self.stable.empty(now):
            return None
        base = max(ready, 1)
        most, least = math.ceil(settings.up_rate * base), math.floor(base / settings.down_rate)
        for_stable = math.ceil(self.stable.mean(now) / settings.target)
        for_panic = math.ceil(self.panic.mean(now) / settings.target)
        wanted = min(max(for_stable, least), most)
        if for_panic / base >= settings.panic_threshold:
            self._panic_since = now
        elif self._panic_since is not None and self._panic_since + settings.stable_seconds < now:
            self._panic_since, self._panic_most = None, 0
        if self._panic_since is None:
            return wanted
        # Only upwards while it panics.
        self._panic_most = max(wanted, min(max(for_panic, least), most), self._panic_most)
        return self._panic_most

    def spare(self, ready: int, now: float) -> float:
        """Excess burst capacity: 3 idle workers of 100 have 89 to spare above 211."""
        return ready * self.settings.total - self.settings.burst_capacity - self.panic.mean(now)


class Knative:
    """The decider's ticks, what a second's concurrency was, and the way to 0 workers."""

    limited = False

    def __init__(
        self, settings: KnativeSettings, *, tick_phase_seconds: float = 0.0, name: str = "knative"
    ) -> None:
        self.name = name
        self.settings = settings
        self._decider = Decider(settings)
        self._tick = Timer(settings.tick_seconds, tick_phase_seconds)
        self._second = Timer(1.0)
        self._latest = -1  # what the decider wished for last; -1: nothing yet
        self._lag: float | None = None  # at the last look; None: before the first, or unknown
        self._begun = False
        self._looked_at = self._sampled_at = 0.0
        self._area = 0.0  # order-seconds since the last sample
        self._counted = 0.0  # orders told at once, left out of the next sample
        self._known = False  # the activator has a count for this queue
        # The way to zero: active or not since when, and since when the activator is in the path.
        self._active_since: float | None = None
        self._idle_since: float | None = None
        self._proxy_since: float | None = None

    def look(self, seen: Seen, now: float) -> int | None:
        """Workers wished for; None where nothing is decided, or nothing changes."""
        if not self._begun:
            self._begin(seen, now)
        poked = self._count(seen, now)
        if self._tick.due(now) is None and not poked:
            return None
        wanted = self._decider.scale(seen.ready, now)
        if wanted is not None:
            self._latest = wanted
        found = self._applied(seen, now)
        return None if found is None or found == seen.asked else found

    def _begin(self, seen: Seen, now: float) -> None:
        self._begun, self._looked_at, self._sampled_at = True, now, now
        self._second.due(now)
        self._decider.begin(seen.ready, now)
        self._latest = 0 if seen.asked == 0 else -1
        self._proxy_since = now
        if seen.asked:
            self._active_since = now
        else:
            self._idle_since = now

    def _count(self, seen: Seen, now: float) -> bool:
        """Record the mean of each second. True when 0 workers meet an order: that is a tick at once."""
        self._area += (self._lag or 0) * (now - self._looked_at)
        found = self._lag = outstanding(seen)
        self._looked_at = now
        if found is None:
            return False  # nobody reports
        sampled = self._second.due(now) is not None
        if sampled:
            elapsed = now - self._sampled_at
            mean = self._area / elapsed if elapsed > 0 else found
            if seen.ready or mean:
                self._decider.record(now, max(mean - self._counted, 0.0))
            self._sampled_at, self._area, self._counted = now, 0.0, 0.0
            self._known = self._known and mean > 0
        if found and not self._known:
            self._known, self._counted = True, 1.0
            self._decider.record(now, 1.0)
            return self._latest == 0
        return sampled and found > 0 and self._latest == 0

    def _applied(self, seen: Seen, now: float) -> int | None:
        """What the reconciler makes of the latest wish: bounds, and the steps before 0."""
        if self._latest < 0:
            return None
        settings = self.settings
        wanted = max(self._latest, settings.minimum)
        if settings.maximum:
            wanted = min(wanted, settings.maximum)
        applied: int | None = wanted
        if wanted == 0:
            wanted, applied = self._towards_zero(now)
        if wanted > 0 and self._decider.spare(seen.ready, now) >= 0:
            self._proxy_since = None
        elif self._proxy_since is None:
            self._proxy_since = now
        self._activity(wanted, seen.ready, now)
        return applied

    def _towards_zero(self, now: float) -> tuple[int, int | None]:
        """(wish, what is applied): 1 until it was active for a stable window, then idle, then 0."""
        settings = self.settings
        if self._active_since is not None:
            if now - self._active_since < settings.stable_seconds:
                return 1, 1
            return 0, None
        if self._idle_since is None:
            return -1, None  # no worker of the first wish is ready yet
        waited = [now - since for since in (self._idle_since, self._proxy_since) if since is not None]
        return 0, 0 if max(waited) >= settings.zero_grace_seconds else None

    def _activity(self, wanted: int, ready: int, now: float) -> None:
        if wanted == 0:
            self._active_since = None
            if self._idle_since is None:
                self._idle_since = now
        elif ready >= max(self.settings.minimum, 1):
            if wanted > 0 or self._idle_since is None:
                self._idle_since = None
                if self._active_since is None:
                    self._active_since = now
        elif wanted > 0 or self._idle_since is None:
            self._active_since = self._idle_since = None
