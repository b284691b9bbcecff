"""`spec.throughput.shared`: the part of a pool that shares one limit with others."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from pydantic import Field

from peakclip.limiter import grid
from peakclip_operator.resource.rules import Part, Rule, between, matches

# A hundredth of it is the least that a lane has, and a tenth of it is for all of them.
LEAST_SHARED: Final = 0.1


class Shared(Part):
    """A limit that several pools have together. What one does not use, the others have."""

    group: str = Field(max_length=63)
    """Name of what is shared: pools of this namespace that name the same group share its limit."""

    limit_per_second: float
    """R of the group, in messages per second over all of its pools together: what the database was sized for. From 0.1
    to 100000. All pools of a group state the same; where they do not, the smallest counts and a condition says so."""

    priority: Annotated[int, Field(ge=0, le=1000)] = 0
    """Higher goes first: a pool of a higher priority gets all that it can use, and those below it the rest. From 0 to
    1000."""

    weight: Annotated[int, Field(ge=1, le=1000)] = 1
    """Pools of the same priority get R in this proportion while it does not suffice for both. From 1 to 1000."""

    guaranteed_per_second: float = 0.0
    """This much the pool gets whenever it has a use for it, whatever the priorities are. What it does not use is lent
    to the others."""

    rules: ClassVar[tuple[Rule, ...]] = (
        matches("group", "[a-z0-9]([-a-z0-9]*[a-z0-9])?", "group is small letters, digits and hyphens"),
        between("limitPerSecond", LEAST_SHARED, grid.GREATEST_RATE),
        Rule(
            "self.guaranteedPerSecond >= 0.0 && self.guaranteedPerSecond <= self.limitPerSecond",
            "guaranteedPerSecond must be between 0 and the limitPerSecond of the group",
            lambda it: 0 <= it.guaranteed_per_second <= it.limit_per_second,
        ),
    )
