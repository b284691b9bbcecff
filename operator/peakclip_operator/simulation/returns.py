"""Messages that wait for another attempt: what the database did not do, and what a dead worker had in hand."""

from __future__ import annotations


class Returns:
    """In the order in which they come back. Times in seconds since the beginning of the run."""

    def __init__(self) -> None:
        self._waiting: list[
            tuple[float, int, int]
        ] = []  # comes back at; how many; finished when they were put off
        self.count = 0

    def put_off(self, count: int, until: float, finished: int) -> None:
        """So many come back then. `finished`: of all orders, by now."""
        self.count += count
        self._waiting.append((until, count, finished))
        if len(self._waiting) > 1 and until < self._waiting[-2][0]:
            self._waiting.sort()

    def come_back(self, now: float) -> int:
        """How many do by now."""
        count = 0
        while self._waiting and self._waiting[0][0] <= now:
            count += self._waiting.pop(0)[1]
        self.count -= count
        return count

    def floor(self, finished: int) -> int:
        """Every order up to this one is finished."""
        return min(finished, self._waiting[0][2]) if self._waiting else finished
