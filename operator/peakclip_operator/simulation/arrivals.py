"""When orders come: plain data, one number of orders for each second. Traces of one length can be added up."""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

Trace = tuple[float, ...]
"""Orders in each second."""

_EXACT_BELOW = 12.0  # above it, a normal distribution is a Poisson distribution for all that can be seen here


def steady(seconds: int, per_second: float) -> Trace:
    return (float(per_second),) * seconds


def ramp(seconds: int, first: float, last: float) -> Trace:
    """From one rate to another in a straight line."""
    return tuple(first + (last - first) * second / max(1, seconds - 1) for second in range(seconds))


def flash(seconds: int, size: float, at: int, *, over: int = 1) -> Trace:
    """A burst of `size` orders within `over` seconds, and nothing else."""
    return tuple(size / over if at <= second < at + over else 0.0 for second in range(seconds))


def waves(seconds: int, size: float, every: int, *, first: int = 0, over: int = 1) -> Trace:
    """A burst every so many seconds."""
    return tuple(
        size / over if second >= first and (second - first) % every < over else 0.0
        for second in range(seconds)
    )


def sine(seconds: int, low: float, high: float, period: float) -> Trace:
    """A day: from the low of the night to the high of the evening and back, however short the day."""
    middle, swing = (high + low) / 2, (high - low) / 2
    return tuple(middle - swing * math.cos(2 * math.pi * second / period) for second in range(seconds))


def added(*traces: Trace) -> Trace:
    return tuple(map(sum, zip(*traces, strict=True)))


def joined(*traces: Trace) -> Trace:
    """One after the other."""
    return tuple(number for trace in traces for number in trace)


def recorded(path: Path) -> Trace:
    """A CSV file with lines `second,count`; a second that is missing had no orders. A heading is left out.

    Raises ValueError with the line that is neither.
    """
    counts: dict[int, float] = {}
    with path.open(newline="") as file:
        for number, row in enumerate(csv.reader(file), start=1):
            if not row or (number == 1 and not row[0].strip().replace(".", "", 1).isdigit()):
                continue
            try:
                second, count = int(float(row[0])), float(row[1])
            except (ValueError, IndexError):
                raise ValueError(f"{path}, line {number}: not `second,count`: {','.join(row)}") from None
            if second < 0 or count < 0 or not math.isfinite(count):
                raise ValueError(f"{path}, line {number}: neither may be negative: {','.join(row)}")
            counts[second] = counts.get(second, 0.0) + count
    if not counts:
        raise ValueError(f"{path} holds no line `second,count`.")
    return tuple(counts.get(second, 0.0) for second in range(max(counts) + 1))


def per_step(trace: Sequence[float], steps: int, rng: random.Random | None) -> list[int]:
    """Whole orders in each of the `steps` steps of each second: Poisson with a generator of numbers, else even."""
    if rng is not None:
        return [_poisson(number / steps, rng) if number else 0 for number in trace for _ in range(steps)]
    return list(_whole(number / steps for number in trace for _ in range(steps)))


def _whole(parts: Iterable[float]) -> Iterable[int]:
    total, given = 0.0, 0
    for part in parts:
        total += part
        count = int(total + 1e-9) - given
        given += count
        yield count


def _poisson(mean: float, rng: random.Random) -> int:
    if mean > _EXACT_BELOW:
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    bound, count, product = math.exp(-mean), 0, rng.random()
    while product > bound:
        count += 1
        product *= rng.random()
    return count
