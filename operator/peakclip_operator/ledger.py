"""PURE. What was promised to the lanes of a group, so that a promise counts before it is kept and after its maker died.

A lane's own pace is changed by compare-and-set, but the sum over the lanes is in no single key. So whoever raises a
share first writes all of them into the group's key, `shared.<group>` in the bucket PACE, by compare-and-set on what it
read there, and only then the paces, each by compare-and-set on what it read of it before. Hence

- of two controllers that looked at the same time one raises nothing: the ledger is no more as it read it;
- what a controller wrote into the ledger and died over counts as promised, until the lane's pace has been written
  after it (revisions of both keys are those of one stream): then a late write of the dead one is refused.

Lowering needs no ledger: it can only make the sum smaller. A pool joins with a share of 0, so whoever has one is in the
ledger, also when the operator that knows the group now has never heard of that pool.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from peakclip.limiter.pace import Pace, most_from

LEAD_SECONDS: Final = 1.0
"""No change that is written now is in force sooner: the fence is 1.3 s ahead, and 1.2 s after the server stored it. The
rest allows for servers whose clocks differ by 0.2 s."""


class Ledger(msgspec.Struct, frozen=True):
    limit_per_second: float
    shares: dict[str, float]


@dataclass(frozen=True, slots=True)
class Entry:
    """A key as it was read. Revision 0: there is none."""

    ledger: Ledger
    revision: int


@dataclass(frozen=True, slots=True)
class Found:
    """The pace of a lane as it was read. It is in the group: its share is one of this group."""

    pool: str
    pace: Pace
    revision: int

    @property
    def given(self) -> float:
        return self.pace.share.per_second if self.pace.share else 0.0


@dataclass(frozen=True, slots=True)
class Writes:
    lower: tuple[tuple[Found, float], ...]
    """First. A promise that is not to be kept is made void by writing the lane's share again."""
    upper: tuple[tuple[Found, float], ...]
    """Last, and only if the ledger was written between the two."""


def promised(found: Found, entry: Entry) -> float:
    """By a write that may still be on its way."""
    return entry.ledger.shares.get(found.pool, 0.0) if entry.revision > found.revision else 0.0


def committed(found: Found, entry: Entry, server_now: float) -> float:
    """The most that is in force for the lane at any moment from which on a change written now could be. The share is
    in it: whoever may raise the effective rate raises it as far, without asking."""
    in_force = most_from(found.pace, server_now + LEAD_SECONDS)
    return max(in_force, found.given, promised(found, entry))


def members(entry: Entry, present: Iterable[str]) -> list[str]:
    """Whose pace is to be read: those that are there, and those that were."""
    return sorted({*present, *entry.ledger.shares})


def writes(lanes: Sequence[Found], told: Mapping[str, float], entry: Entry) -> Writes:
    """What is to be written so that each lane has been told what it should be."""
    lower = [
        (one, told[one.pool])
        for one in lanes
        if told[one.pool] < one.given or (told[one.pool] == one.given < promised(one, entry))
    ]
    upper = [(one, told[one.pool]) for one in lanes if told[one.pool] > one.given]
    return Writes(tuple(lower), tuple(upper))


def promises(
    limit: float, lanes: Sequence[Found], told: Mapping[str, float], entry: Entry, lowered: Container[str]
) -> Ledger:
    """The most that each lane may have by what was written, is on its way, or is now going to be.

    `lowered` are those who have been told less just now: nothing that began before that can come any more.
    """
    return Ledger(
        limit,
        {
            one.pool: told[one.pool]
            if one.pool in lowered
            else max(told[one.pool], one.given, promised(one, entry))
            for one in lanes
        },
    )
