"""How fast groups of orders are stored at the moment, and so how many orders may wait for it. Pure.

Worked numbers: two groups of 256 at a time, and storing one takes half a second because the disk is slow: 1,024 orders
a second. Of those who may wait for 3 s there may be 3,072; whoever comes after them is better told at once.
"""

from __future__ import annotations

from typing import Final

_NEWEST: Final = 0.3  # share of the newest group in the mean: after ten groups the past is forgotten


class StoringPace:
    """Times are seconds of a clock that never jumps."""

    def __init__(self) -> None:
        self._mean: float | None = None
        self._begun: list[float] = []

    def begin(self, now: float) -> None:
        self._begun.append(now)

    def end(self, began: float, now: float) -> None:
        """A group that began then is stored, or given up."""
        self._begun.remove(began)
        took = now - began
        self._mean = took if self._mean is None else self._mean + _NEWEST * (took - self._mean)

    def seconds(self, now: float) -> float:
        """What storing a group takes: the mean, or longer if one has been under way for longer. 0 while unknown."""
        waited = now - min(self._begun) if self._begun else 0.0
        return max(self._mean or 0.0, waited)

    def orders_within(self, seconds: float, at_once: int, now: float) -> float:
        """How many orders are stored in that time, `at_once` of them together."""
        took = self.seconds(now)
        return seconds / took * at_once if took > 0 else float("inf")
