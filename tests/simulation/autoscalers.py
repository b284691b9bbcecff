"""Autoscalers that nobody should have, and one that does nothing. Each mistake has to be found."""

from __future__ import annotations

from collections.abc import Callable

from peakclip_operator.simulation.autoscalers import Seen
from peakclip_operator.simulation.peakclip import Peakclip
from peakclip_operator.simulation.scenario import Scenario


class Fixed:
    """So many workers, whatever comes."""

    name = "fixed"

    def __init__(self, workers: int, *, limited: bool = True) -> None:
        self.limited = limited
        self._workers = workers
        self.seen: list[Seen] = []

    def look(self, seen: Seen, now: float) -> int | None:
        self.seen.append(seen)
        return self._workers


class Wrong(Peakclip):
    """The plan, and what somebody makes of its answer."""

    def __init__(self, scenario: Scenario, change: Callable[[int, Seen, float], int]) -> None:
        super().__init__(scenario)
        self._change = change

    def look(self, seen: Seen, now: float) -> int | None:
        wanted = super().look(seen, now)
        return None if wanted is None else self._change(wanted, seen, now)
