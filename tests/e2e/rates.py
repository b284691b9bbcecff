"""What the database saw, from the moments of its rows. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from peakclip.audit.checks.rate import busiest_second
from peakclip.limiter.grid import default_burst

_FULL = 0.9  # a second that holds this share of R has its pods up


@dataclass(frozen=True, slots=True)
class Drain:
    """Rates are per second; moments are epoch seconds."""

    orders: int
    first: float
    last: float
    seconds: float  # first to last
    mean: float
    steady: float  # from the first full second to the last order: once the pods are up
    ramp_seconds: float  # first order to the first full second
    most: int  # in any sliding second

    @classmethod
    def of(cls, moments: Sequence[float], rate: float) -> Drain:
        ordered = sorted(moments)
        assert len(ordered) > rate, f"{len(ordered)} moments are too few to speak of a rate of {rate:g}/s"
        full = next((at for at in ordered if _count(ordered, at, at + 1.0) >= _FULL * rate), ordered[0])
        steady = [at for at in ordered if at >= full]
        return cls(
            orders=len(ordered),
            first=ordered[0],
            last=ordered[-1],
            seconds=ordered[-1] - ordered[0],
            mean=mean(ordered),
            steady=mean(steady),
            ramp_seconds=full - ordered[0],
            most=busiest_second(ordered)[0],
        )

    def figures(self) -> dict[str, float]:
        return {
            name: round(value, 3) for name, value in asdict(self).items() if name not in ("first", "last")
        }


def mean(moments: Sequence[float]) -> float:
    """n moments have n - 1 gaps."""
    return (len(moments) - 1) / (moments[-1] - moments[0])


def allowed(rate: float) -> int:
    """Starts in any sliding second: R and the burst."""
    return int(rate + default_burst(rate))


def per_second(moments: Sequence[float], begin: float, end: float) -> list[int]:
    """How many in each whole second of [begin, end)."""
    ordered = sorted(moments)
    return [_count(ordered, begin + second, begin + second + 1) for second in range(int(end - begin))]


def most_after(moments: Sequence[float], begin: float = 0.0) -> int:
    return busiest_second(sorted(at for at in moments if at >= begin))[0]


def _count(ordered: Sequence[float], begin: float, end: float) -> int:
    return bisect_left(ordered, end) - bisect_left(ordered, begin)
