"""The Flink Kubernetes operator's autoscaler around its formulas: when it collects, decides and restarts the job.

Read in apache/flink-kubernetes-operator, main of 2026-07-20 (6e9caeb, 1.16-SNAPSHOT): ScalingMetricCollector
(collect), JobAutoScalerImpl, ScalingExecutor (scaleResource), JobVertexScaler (detectBlockScaling,
applyScaleDownInterval, detectIneffectiveScaleUp), DelayedScaleDown.

By default it decides 20 minutes after the start of a job at the earliest, and after each rescale anew: 5 min of
stabilization, then a full metrics window of 15 min. So a flash sale of minutes is over before it has decided once.
"""

from __future__ import annotations

import math
from dataclasses import replace

from peakclip_operator.plan import Lag
from peakclip_operator.simulation.autoscalers import Seen
from peakclip_operator.simulation.baselines.flink_formulas import (
    Evaluated,
    FlinkSettings,
    Sample,
    evaluate,
    observed_rate,
    parallelism,
)
from peakclip_operator.simulation.baselines.timer import Timer


def documented(settings: FlinkSettings) -> FlinkSettings:
    """The example of its own page (docs/custom-resource/autoscaler.md): faster, and less loaded, than the defaults."""
    return replace(
        settings,
        stabilization_seconds=60.0,
        window_seconds=300.0,
        utilization_target=0.6,
        utilization_min=0.4,
        utilization_max=0.8,
        planned_restart_seconds=120.0,
        catch_up_seconds=300.0,
    )


class DelayedScaleDown:
    """No scale-down before it was due for the whole interval; then to the highest wish of that time."""

    def __init__(self, interval_seconds: float) -> None:
        self._interval = interval_seconds
        self._since: float | None = None
        self._wishes: list[tuple[float, int, bool]] = []

    def clear(self) -> None:
        self._since, self._wishes = None, []

    def trigger(self, wanted: int, outside: bool, now: float) -> tuple[int, bool] | None:
        """(workers, whether the rate was outside its bounds then); None while it waits."""
        if self._interval <= 0:
            return wanted, outside
        if self._since is None:
            self._since = now
        lower = [one for one in self._wishes if one[1] > wanted and one[0] >= now - self._interval]
        self._wishes = [*lower, (now, wanted, outside)]
        if now - self._interval < self._since:
            return None
        _, most, was_outside = self._wishes[0]
        return most, was_outside


class Flink:
    """A job of at least one worker. To rescale is to restart: all workers stop for restart_seconds.

    start_seconds: how long a worker takes to start here. It is counted as part of the restart, so the wish for the
    new workers comes that much earlier; a longer start makes the restart longer. A worker that crashes does not
    restart the others, as it would in Flink.
    """

    limited = False

    def __init__(
        self,
        settings: FlinkSettings,
        *,
        reconcile_phase_seconds: float = 0.0,
        start_seconds: float = 0.0,
        name: str = "flink",
    ) -> None:
        self.name = name
        self.settings = settings
        self._reconcile = Timer(settings.reconcile_seconds, reconcile_phase_seconds)
        self._down_seconds = max(settings.restart_seconds - start_seconds, 0.0)
        self._delayed = DelayedScaleDown(settings.scale_down_interval_seconds)
        self._parallelism = 0
        self._asked_at = 0.0
        self._running_since: float | None = None
        self._stopped_until: float | None = None
        self._samples: list[Sample] = []
        self._before: tuple[float, float, float] | None = None  # time, taken, busy seconds
        # The last scale-up: its workers, the rate before and the one that was expected of it.
        self._raised: tuple[int, float, float] | None = None

    def look(self, seen: Seen, now: float) -> int | None:
        """Workers wished for: 0 when a restart begins, the new number when it ends."""
        if self._parallelism == 0:
            self._parallelism = max(seen.asked, self.settings.minimum, 1)
        if self._stopped_until is not None and now < self._stopped_until:
            return None
        self._stopped_until = None
        if seen.asked != self._parallelism:
            return self._parallelism
        if self._running_since is None:
            if seen.ready < self._parallelism:
                return None
            self._running_since = now
        if self._reconcile.due(now) is None or seen.lag is None:
            return None
        wanted = self._decide(self._sample(seen, seen.lag, now), now, self._running_since)
        return None if wanted is None else self._restart(wanted, now)

    def _restart(self, wanted: int, now: float) -> int:
        self._parallelism = wanted
        self._running_since, self._before = None, None
        self._samples = []
        self._stopped_until = now + self._down_seconds
        return 0

    def _decide(self, sample: Sample, now: float, running_since: float) -> int | None:
        """The new parallelism, once the window after the stabilization is full."""
        settings = self.settings
        self._samples.append(sample)
        stable = running_since + settings.stabilization_seconds
        first = next((one.at for one in self._samples if one.at >= stable), None)
        if first is None or now < first + settings.window_seconds:
            return None
        self._samples = [one for one in self._samples if one.at >= now - settings.window_seconds]
        if len(self._samples) < 2:
            return None
        found = evaluate(self._samples, settings)
        return self._change(found, parallelism(found, self._parallelism, settings), now)

    def _sample(self, seen: Seen, lag: Lag, now: float) -> Sample:
        taken, busy = seen.finished_total + lag.in_flight, seen.busy_seconds_total
        load = per_second = math.nan
        if self._before is not None:
            at, taken_then, busy_then = self._before
            elapsed = now - at
            per_second = max(taken - taken_then, 0.0) / elapsed
            load = max(busy - busy_then, 0.0) / (elapsed * self._parallelism)
        self._before = now, taken, busy
        observed = observed_rate(self._samples, lag.ready, per_second, self.settings)
        return Sample(now, taken, lag.ready, load, observed)

    def _change(self, found: Evaluated, wanted: int, now: float) -> int | None:
        current = self._parallelism
        if wanted == current:
            self._delayed.clear()
            return None
        outside = found.outside
        if wanted > current:
            self._delayed.clear()
            if self.settings.detect_ineffective and self._ineffective(found):
                return None
        else:
            delayed = self._delayed.trigger(wanted, outside, now)
            if delayed is None:
                return None
            wanted, outside = delayed
        if not outside:
            return None
        self._delayed.clear()
        expected = found.true_rate / current * wanted
        self._raised = (wanted, found.true_rate, expected) if wanted > current else None
        return wanted

    def _ineffective(self, found: Evaluated) -> bool:
        """The last scale-up, from 100/s to an expected 200/s, brought 105/s: 5 % of it, below 10 %."""
        if self._raised is None or self._raised[0] != self._parallelism:
            return False
        _, before, expected = self._raised
        return (found.true_rate - before) / (expected - before) < self.settings.effective_from
