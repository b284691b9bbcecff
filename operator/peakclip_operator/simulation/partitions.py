"""Many queues side by side: how far the design goes when one stream, one pool and one database are not enough.

An order goes to the partition that its id falls on. Each partition is a whole system of its own: a stream, a pool with
its operator's plan, and a database shard with its own R. So nothing is shared, and what has to be known is how uneven
chance makes them: the fullest of 64 with 15,625 orders each has some 300 more, and ends 2 % later than the mean.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Final

from peakclip_operator.simulation.arrivals import flash
from peakclip_operator.simulation.database import Database
from peakclip_operator.simulation.measure import score
from peakclip_operator.simulation.peakclip import Peakclip
from peakclip_operator.simulation.promises import violations
from peakclip_operator.simulation.run import run
from peakclip_operator.simulation.scenario import Scenario

MILLION: Final = 1_000_000
_BURST_AT = 5
_SLACK_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Partitioned:
    """What all partitions did together. Rates are orders per second."""

    partitions: int
    orders: int
    limit_per_second: float
    """R of all together."""
    most_in_one: int
    drain_seconds: float
    """Until the last partition was done."""
    optimum_seconds: float
    """What the sum of the rates would need, had each partition its exact share."""
    worst_second: int
    """Most orders started in one second, over all."""
    most_workers: int
    broken: int
    """Promises that a partition did not keep."""


def partitioned(orders: int, partitions: int, limit_per_second: float, *, seed: int = 1) -> Partitioned:
    """A burst of `orders` within a second, over partitions that share `limit_per_second` evenly."""
    chance = random.Random(seed)
    counts = _thrown(chance, orders, partitions)
    each = limit_per_second / partitions
    seconds = round(_BURST_AT + max(counts) / each + _SLACK_SECONDS)
    scenario = Scenario(
        name="partition",
        arrivals=flash(seconds, 0, _BURST_AT),
        poisson=False,
        limit_per_second=each,
        max_replicas=100,
        database=Database(capacity_per_second=4 * each, knee=256.0, connections=512),
        slo_seconds=seconds,
    )
    runs = [
        run(replace(scenario, arrivals=flash(seconds, count, _BURST_AT)), Peakclip(scenario), seed + index)
        for index, count in enumerate(counts)
    ]
    scores = [score(one) for one in runs]
    return Partitioned(
        partitions=partitions,
        orders=orders,
        limit_per_second=limit_per_second,
        most_in_one=max(counts),
        drain_seconds=max(one.drain_seconds for one in scores),
        optimum_seconds=orders / limit_per_second,
        worst_second=max(map(sum, zip(*([row.started for row in one.rows] for one in runs), strict=True))),
        most_workers=sum(one.most_workers for one in scores),
        broken=sum(len(violations(one)) for one in runs),
    )


def told(made: Partitioned) -> str:
    """In a few lines."""
    mean = made.orders / made.partitions
    return (
        f"{made.orders:,} orders within a second over {made.partitions} partitions, {made.limit_per_second:,.0f}/s"
        f" together\n"
        f"fullest: {made.most_in_one:,} orders ({made.most_in_one / mean - 1:+.1%})\n"
        f"drained after {made.drain_seconds:.1f} s; all alike and every worker there at once:"
        f" {made.optimum_seconds:.1f} s\n"
        f"most in a second: {made.worst_second:,}; workers: {made.most_workers:,}; promises broken: {made.broken}"
    )


def _thrown(chance: random.Random, orders: int, partitions: int) -> list[int]:
    """How many orders fall on each partition, by a hash that treats all alike."""
    counts, left = [], orders
    for index in range(partitions, 1, -1):
        count = min(left, max(0, round(chance.gauss(left / index, (left * (1 - 1 / index) / index) ** 0.5))))
        counts.append(count)
        left -= count
    return [*counts, left]
