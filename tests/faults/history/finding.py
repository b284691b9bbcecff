"""A broken promise, with its evidence; and what all checks look things up in."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Final, TypeVar

from faults.history.facts import Event, Facts
from faults.history.record import PLACES, Entry, History, Kind, Operation, operations

from peakclip.audit.facts import OrderRow

T = TypeVar("T")

REMEMBERED_SECONDS: Final = 120.0  # for so long the broker knows a message again


class Damage(StrEnum):
    LOST = "lost"  # told, and not there
    DUPLICATED = "duplicated"
    EXTRA = "extra"  # there, and nobody asked for it, or who asked was told no
    OVERSOLD = "oversold"
    UNDERSOLD = "undersold"
    MISORDERED = "misordered"
    LIMIT = "limit"  # of a sale, for each customer
    TWO_WINNERS = "two winners"  # payment against expiry, cancellation or another payment
    EFFECT_MISSING = "effect missing"
    RATE = "rate"
    WRONG = "wrong"  # there as it should be, with another content: of another order, to somebody else, another amount


@dataclass(frozen=True, slots=True)
class Finding:
    damage: Damage
    subjects: tuple[str, ...]  # ids of what is damaged
    evidence: str


@dataclass(frozen=True)
class Case:
    """History and facts, sorted once."""

    entries: tuple[Entry, ...]
    facts: Facts
    operations: tuple[Operation, ...]
    by_order: Mapping[str, Mapping[Kind, list[Operation]]]
    rows: Mapping[str, OrderRow]  # the first of each id
    events: Mapping[str, Event]  # the first of each id
    in_line: Mapping[str, float]  # order id -> when it was stored there first
    aside: frozenset[str]  # orders that are, or were, in a dead letter

    @classmethod
    def of(cls, history: History, facts: Facts) -> Case:
        found = tuple(operations(history.entries))
        by_order: defaultdict[str, defaultdict[Kind, list[Operation]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for operation in found:
            by_order[operation.first.order_id][operation.first.kind].append(operation)
        rows: dict[str, OrderRow] = {}
        for row in facts.orders:
            rows.setdefault(row.order_id, row)
        events: dict[str, Event] = {}
        for event in facts.events:
            events.setdefault(event.event_id, event)
        in_line: dict[str, float] = {}
        for queued in facts.line:
            in_line[queued.order_id] = min(queued.stored_at, in_line.get(queued.order_id, math.inf))
        aside = frozenset(order_id for letter in facts.letters for order_id in letter.order_ids)
        return cls(history.entries, facts, found, by_order, rows, events, in_line, aside)

    def asked(self, order_id: str, *kinds: Kind) -> list[Operation]:
        of_order = self.by_order.get(order_id, {})
        return [operation for kind in kinds for operation in of_order.get(kind, ())]

    def there_since(self, order_id: str) -> float:
        """From this moment on its row was there for everybody to see, as far as that is known."""
        told = [
            ok.at
            for found in self.by_order.get(order_id, {}).values()
            for operation in found
            for ok in operation.oks
            if ok.order_id == order_id and ok.status not in (None, "queued")
        ]
        event = self.events.get(f"{order_id}:1")
        return min([*told, *([] if event is None else [event.stored_at])], default=math.inf)

    def accepted_since(self, order_id: str) -> float:
        """From this moment on it was in the line, or its row was there, as far as that is known."""
        told = [ok.at for one in self.asked(order_id, *PLACES) for ok in one.oks if ok.order_id == order_id]
        return min([self.there_since(order_id), self.in_line.get(order_id, math.inf), *told])

    def is_transition(self, event_id: str) -> bool:
        """A row has gone through it, or it is in the stream."""
        order_id, _, version = event_id.rpartition(":")
        row = self.rows.get(order_id)
        told = event_id in self.events
        return told or (row is not None and version.isdecimal() and 1 <= int(version) <= row.version)


_NEXT: Final[Mapping[str, frozenset[str]]] = {
    "queued": frozenset({"created", "pending_payment", "rejected"}),
    "created": frozenset({"paid", "accepted", "cancelled"}),
    "pending_payment": frozenset({"paid", "cancelled"}),
    "paid": frozenset({"accepted", "cancelled"}),
    "accepted": frozenset({"started", "cancelled"}),
    "started": frozenset({"completed"}),
}


def follows(before: str, after: str) -> bool:
    """One legal step. A payment of an order that is accepted leaves its status."""
    return after in _NEXT.get(before, frozenset())


@cache
def can_become(before: str, after: str) -> bool:
    """By any number of legal steps, or none."""
    return before == after or any(can_become(one, after) for one in _NEXT.get(before, frozenset()))


def words(found: Iterable[Operation]) -> str:
    return "; ".join(operation.words for operation in found) or "nobody asked for it"


def twice(things: Iterable[T]) -> list[tuple[T, int]]:
    """Those that are there more than once, and how often."""
    counts: dict[T, int] = {}
    for thing in things:
        counts[thing] = counts.get(thing, 0) + 1
    return [(thing, times) for thing, times in counts.items() if times > 1]
