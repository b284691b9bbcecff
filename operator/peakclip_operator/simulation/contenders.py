"""Who decides in a run, by name: the plan, and the baselines that it is compared with."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from peakclip_operator.simulation.autoscalers import Maker
from peakclip_operator.simulation.peakclip import Peakclip

_BASELINES = "peakclip_operator.simulation.baselines"


def makers() -> Mapping[str, Maker]:
    """`peakclip` first."""
    try:
        baselines: Mapping[str, Maker] = importlib.import_module(_BASELINES).BASELINES
    except ModuleNotFoundError as exc:
        if exc.name != _BASELINES:
            raise
        baselines = {}
    return {Peakclip.name: Peakclip, **baselines}
