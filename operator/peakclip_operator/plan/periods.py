"""Placeholder until the real one is merged."""

from __future__ import annotations

from collections.abc import Sequence

from peakclip_operator.plan.spec import Period


def is_excluded(periods: Sequence[Period], now: float) -> Period | None:
    raise NotImplementedError
