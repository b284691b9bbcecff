"""The baselines by name, set up for a scenario: its bounds, its starts, and what an engineer would have measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import floor

from peakclip_operator.simulation.autoscalers import Autoscaler
from peakclip_operator.simulation.baselines.flink import Flink, documented
from peakclip_operator.simulation.baselines.flink_formulas import FlinkSettings
from peakclip_operator.simulation.baselines.keda import Keda, KedaSettings, tuned
from peakclip_operator.simulation.baselines.knative import Knative, KnativeSettings
from peakclip_operator.simulation.scenario import Scenario

Build = Callable[[str, Scenario, float], Autoscaler]


def hand_set_maximum(scenario: Scenario) -> int:
    """The most workers that stay below R with the work as it is at the beginning: 100/s and 23.1/s each are 4."""
    return max(1, floor(scenario.limit_per_second * scenario.work_seconds(0.0) / scenario.batch))


def _keda(name: str, share: float, settings: KedaSettings) -> Autoscaler:
    return Keda(
        settings,
        name=name,
        polling_phase_seconds=share * settings.polling_seconds,
        sync_phase_seconds=share * settings.sync_seconds,
    )


def _keda_defaults(name: str, scenario: Scenario, share: float) -> Autoscaler:
    bounds = KedaSettings(minimum=scenario.min_replicas, maximum=scenario.max_replicas)
    return _keda(name, share, bounds)


def _keda_tuned(name: str, scenario: Scenario, share: float) -> Autoscaler:
    most = max(min(scenario.max_replicas, hand_set_maximum(scenario)), scenario.min_replicas)
    return _keda(name, share, tuned(KedaSettings(minimum=scenario.min_replicas, maximum=most)))


def _knative(name: str, scenario: Scenario, share: float) -> Autoscaler:
    settings = KnativeSettings(minimum=scenario.min_replicas, maximum=scenario.max_replicas)
    if name == "knative-one":
        settings = replace(settings, container_concurrency=1)
    return Knative(settings, name=name, tick_phase_seconds=share * settings.tick_seconds)


def _flink(name: str, scenario: Scenario, share: float) -> Autoscaler:
    settings = FlinkSettings(minimum=max(scenario.min_replicas, 1), maximum=scenario.max_replicas)
    if name == "flink-documented":
        settings = documented(settings)
    return Flink(
        settings,
        name=name,
        reconcile_phase_seconds=share * settings.reconcile_seconds,
        start_seconds=scenario.start_seconds,
    )


BASELINES: Mapping[str, Build] = {
    "keda": _keda_defaults,
    "keda-tuned": _keda_tuned,
    "knative": _knative,
    "knative-one": _knative,
    "flink": _flink,
    "flink-documented": _flink,
}
"""Defaults; or tuned by hand; or with containerConcurrency 1; or as in the example of Flink's own page."""


def baseline(name: str, scenario: Scenario, phase_share: float = 0.5) -> Autoscaler:
    """phase_share: where its timers are at the beginning, as a share of their periods (0 to below 1).

    In the middle by default: neither lucky nor unlucky with a burst at the beginning.
    """
    return BASELINES[name](name, scenario, phase_share)
