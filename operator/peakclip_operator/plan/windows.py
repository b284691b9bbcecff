"""Counters over time windows. A rate is None wherever it would be a guess."""

from __future__ import annotations

from dataclasses import dataclass

Sample = tuple[float, float]  # time in seconds, value of a counter that only grows


@dataclass(frozen=True, slots=True)
class Series:
    """The newest samples of a counter, oldest first, without gaps and without steps backwards."""

    samples: tuple[Sample, ...] = ()

    def add(
        self, at: float, value: float, *, keep_seconds: float, gap_seconds: float, apart_seconds: float = 0.0
    ) -> Series:
        """The series with one more sample. Of samples closer together than `apart_seconds` only the newest stays.

        It starts again from this sample when the counter went backwards (it is another counter now), nothing
        was seen for longer than `gap_seconds`, or the clock was set back as far. A sample that is not newer
        than the last is left out.
        """
        if self.samples:
            last_at, last_value = self.samples[-1]
            if value < last_value or abs(at - last_at) > gap_seconds:
                return Series(((at, value),))
            if at <= last_at:
                return self
        # One sample at or before the window's edge stays, or the window would never be covered fully.
        edge = at - keep_seconds
        first = 0
        while first + 1 < len(self.samples) and self.samples[first + 1][0] <= edge:
            first += 1
        kept = self.samples[first:]
        if apart_seconds and len(kept) > 1 and kept[-1][0] - kept[-2][0] < apart_seconds:
            kept = kept[:-1]
        return Series((*kept, (at, value)))

    def grow(self, at: float, growth: float, *, keep_seconds: float, gap_seconds: float) -> Series:
        """The series with a sample that is `growth` above the last one."""
        last = self.samples[-1][1] if self.samples else 0.0
        return self.add(at, last + growth, keep_seconds=keep_seconds, gap_seconds=gap_seconds)

    def growth(self, window_seconds: float, now: float) -> tuple[float, float] | None:
        """How much the counter grew in the window, and in how many seconds; None with fewer than two."""
        if len(self.samples) < 2:
            return None
        edge = now - window_seconds
        newest_at, newest = self.samples[-1]
        start = self.samples[0]
        for sample in self.samples:
            if sample[0] > edge:
                break
            start = sample
        if start[0] >= newest_at:
            return None  # nothing newer than the window's edge
        return newest - start[1], newest_at - start[0]

    @property
    def covers_seconds(self) -> float:
        """From the oldest sample to the newest."""
        return self.samples[-1][0] - self.samples[0][0] if self.samples else 0.0

    def rate(self, window_seconds: float, now: float) -> float | None:
        """Per second over the window: 600 more in 6 s are 100.0. Zero only when nothing was added."""
        grown = self.growth(window_seconds, now)
        return None if grown is None else grown[0] / grown[1]
