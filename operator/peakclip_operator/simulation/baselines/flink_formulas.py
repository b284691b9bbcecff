"""The formulas of Apache Flink's autoscaler, for a job of one vertex: a source with its sink chained to it.

Read in apache/flink-kubernetes-operator, main of 2026-07-20 (6e9caeb, 1.16-SNAPSHOT), flink-autoscaler:
ScalingMetricEvaluator (computeTargetDataRate, computeTrueProcessingRate, computeProcessingRateThresholds,
isProcessingBacklog, getRate, getAverage), AutoScalerUtils.getTargetProcessingCapacity,
JobVertexScaler.computeScaleTargetParallelism, metrics/ScalingMetrics (getObservedTpr), config/AutoScalerOptions.

Not a number (NaN) is "not known", as there: nothing is changed because of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FlinkSettings:
    """Defaults of AutoScalerOptions; times in seconds."""

    window_seconds: float = 900.0
    stabilization_seconds: float = 300.0
    utilization_target: float = 0.7
    utilization_min: float = 0.4
    utilization_max: float = 1.0
    """target.utilization.boundary: 0.7 - 0.3 and 0.7 + 0.3."""
    catch_up_seconds: float = 1800.0
    """0: the lag is no reason to scale."""
    planned_restart_seconds: float = 300.0
    """What the formula takes a restart for; tracking of real ones is off by default."""
    scale_down_interval_seconds: float = 3600.0
    scale_down_max_factor: float = 0.6
    scale_up_max_factor: float = 100_000.0
    minimum: int = 1
    maximum: int = 200
    backlog_lag_seconds: float = 300.0
    observe_lag_seconds: float = 30.0
    observe_switch: float = 0.15
    observe_least: int = 2
    detect_ineffective: bool = False
    effective_from: float = 0.1
    reconcile_seconds: float = 60.0
    """kubernetes.operator.reconcile.interval: how often metrics are collected."""
    restart_seconds: float = 30.0
    """Not Flink's: how long the job really stands still when it is rescaled."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one collection read of the job."""

    at: float
    taken: float
    """Orders that the source has taken, since ever (NUM_RECORDS_IN)."""
    lag: float
    """Orders that it has not taken yet (pendingRecords)."""
    load: float
    """Part of the time that a worker was busy, since the collection before; NaN in the first."""
    observed: float
    """True processing rate seen while catching up; NaN when it was not."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Rates in orders per second."""

    input_rate: float
    catch_up_rate: float
    true_rate: float
    """What the job could do at full load."""
    up_below: float
    down_above: float

    @property
    def outside(self) -> bool:
        return self.true_rate < self.up_below or self.true_rate > self.down_above


def observed_rate(samples: Sequence[Sample], lag: float, per_second: float, settings: FlinkSettings) -> float:
    """The rate itself while the lag is 30 s of it or more; else the mean so far. Infinite when nothing moves."""
    if math.isnan(per_second):
        return math.nan
    if per_second == 0:
        return math.inf
    if lag >= settings.observe_lag_seconds * per_second:
        return per_second
    return mean([one.observed for one in samples], settings.observe_least)


def mean(values: Sequence[float], least: int = 1) -> float:
    """Of what is known and finite; infinite if that is all there is."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return math.inf if any(math.isinf(value) for value in values) else math.nan
    return sum(finite) / len(finite) if len(finite) >= least else math.nan


def true_rate(busy: float, rate: float, observed: float, switch: float) -> float:
    """88/s at a load of 0.8 are 110/s; if it does 90/s while it catches up, that (110 > 1.15 x 90)."""
    if rate == 0:
        by_busy = math.inf
    elif math.isnan(rate) or math.isnan(busy):
        by_busy = math.nan
    else:
        by_busy = rate / busy if busy else math.inf
    if math.isnan(observed):
        return by_busy
    if not math.isfinite(by_busy) or by_busy > observed * (1 + switch):
        return observed
    return by_busy


def capacity(
    input_rate: float,
    catch_up_rate: float,
    utilization: float,
    restart_seconds: float,
    settings: FlinkSettings,
) -> float:
    """Wanted rate = lag/catch-up + input x restart/catch-up + input/utilization, rounded.

    18,000 waiting, 100/s in: 10 + 100 x 300/1800 + 100/0.7 = 169.5, so 170.
    """
    utilization = min(max(utilization, 0.0), 1.0)
    if utilization == 0:
        return math.inf
    catch_up = settings.catch_up_seconds
    restart = input_rate * restart_seconds / catch_up if catch_up else 0.0
    return float(math.floor(catch_up_rate + restart + input_rate / utilization + 0.5))


def evaluate(samples: Sequence[Sample], settings: FlinkSettings) -> Evaluated:
    """Needs two samples or more, for rates."""
    first, last = samples[0], samples[-1]
    seconds = max(last.at - first.at, 0.001)
    rate = (last.taken - first.taken) / seconds
    input_rate = max(0.0, rate + (last.lag - first.lag) / seconds)
    catch_up = last.lag / settings.catch_up_seconds if settings.catch_up_seconds else 0.0
    # While it works off a backlog, full load is fine and nothing is scaled down.
    backlog = last.lag > 0 if rate == 0 else last.lag / rate > settings.backlog_lag_seconds
    most, least = (1.0, 0.0) if backlog else (settings.utilization_max, settings.utilization_min)
    return Evaluated(
        input_rate,
        catch_up,
        true_rate(
            mean([one.load for one in samples]),
            rate,
            mean([one.observed for one in samples], settings.observe_least),
            settings.observe_switch,
        ),
        up_below=capacity(input_rate, catch_up, most, 0.0, settings),
        down_above=capacity(input_rate, catch_up, least, settings.planned_restart_seconds, settings),
    )


def parallelism(found: Evaluated, current: int, settings: FlinkSettings) -> int:
    """170/s wanted of 4 workers that can do 100/s: a factor of 1.7, so 7. At most 60 % down: 10 to 4."""
    if math.isnan(found.true_rate):
        return current
    wanted = capacity(
        found.input_rate,
        found.catch_up_rate,
        settings.utilization_target,
        settings.planned_restart_seconds,
        settings,
    )
    factor = wanted / found.true_rate if found.true_rate else math.inf
    factor = min(max(factor, 1 - settings.scale_down_max_factor), 1 + settings.scale_up_max_factor)
    least, most = min(current, settings.minimum), max(current, settings.maximum)
    return min(max(math.ceil(factor * current), least), most)
