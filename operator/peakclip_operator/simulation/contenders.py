"""Who decides in a run, by name: the plan, and the baselines that it is compared with."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import partial

from peakclip_operator.simulation.autoscalers import Autoscaler, Maker
from peakclip_operator.simulation.peakclip import Peakclip
from peakclip_operator.simulation.scenario import Scenario

_BASELINES = "peakclip_operator.simulation.baselines"


def makers() -> Mapping[str, Maker]:
    """`peakclip` first. The timers of the others are in the middle of their periods when a run begins."""
    try:
        named = importlib.import_module(f"{_BASELINES}.named")
    except ModuleNotFoundError as exc:
        if exc.name is None or not exc.name.startswith(_BASELINES):
            raise
        return {Peakclip.name: Peakclip}

    def make(name: str, scenario: Scenario) -> Autoscaler:
        one: Autoscaler = named.baseline(name, scenario)
        return one

    return {Peakclip.name: Peakclip, **{name: partial(make, name) for name in named.BASELINES}}
