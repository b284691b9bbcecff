"""The autoscaler's decision: plain functions over frozen dataclasses; `now` is an argument.

Standard library only. No input or output, no clock, no logger, no metrics: a decision carries its reasons,
and the loop tells them.
"""

from __future__ import annotations

from peakclip_operator.plan.decide import decide
from peakclip_operator.plan.decision import Decision, Memory
from peakclip_operator.plan.observation import DatabaseTotals, Lag, Observation, Totals
from peakclip_operator.plan.spec import Effect, Fallback, Health, Override, Period, PoolSpec, StepLimit

__all__ = [
    "DatabaseTotals",
    "Decision",
    "Effect",
    "Fallback",
    "Health",
    "Lag",
    "Memory",
    "Observation",
    "Override",
    "Period",
    "PoolSpec",
    "StepLimit",
    "Totals",
    "decide",
]
