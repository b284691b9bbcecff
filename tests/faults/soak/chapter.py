"""A chapter: for a while the same sales, and customers who are in no other chapter.

So each can be judged by itself: what it holds of the database is found by the names of its customers. When it is over,
its history goes to a file and out of the memory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from faults.history.facts import Delivery
from faults.history.record import PLACES, History, Ok, Refused, Unknown, operations

from peakclip.local.stack import TENANT

_NAME: Final = re.compile(r"c-(s\d{4})-")


def chapter_of(customer: str) -> str | None:
    """By the name of a customer.

    >>> chapter_of("c-s0007-17"), chapter_of("somebody")
    ('s0007', None)
    """
    found = _NAME.match(customer)
    return found[1] if found else None


class Closing(msgspec.Struct, frozen=True):
    """What whoever judges a chapter has to know beside its history."""

    sales: tuple[str, ...]
    kept_trying: tuple[str, ...]  # sales whose buyers went on until nobody got anything
    deliveries: tuple[Delivery, ...]  # webhooks that its customers got
    listeners: tuple[str, ...] = ()  # customers who had a webhook before their first order
    stocks: Mapping[str, int] = msgspec.field(default_factory=dict)  # sale -> units, which nobody has changed


@dataclass(slots=True)
class Chapter:
    number: int
    history: History = field(default_factory=lambda: History(TENANT))
    sales: list[str] = field(default_factory=list)
    kept_trying: list[str] = field(default_factory=list)
    listeners: list[str] = field(default_factory=list)
    stocks: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)  # answers that break the contract, in words

    @property
    def name(self) -> str:
        return f"s{self.number:04}"

    @property
    def customers(self) -> str:
        """What the name of each of its customers begins with."""
        return f"c-{self.name}-"

    def close(self, folder: Path) -> Mapping[str, int]:
        """Writes the history, forgets it, and tells how many ended how."""
        here = folder / self.name
        here.mkdir(parents=True, exist_ok=True)  # what the streams held of it may be there already
        self.history.write(here / "history.jsonl")
        counts = endings(self.history)
        accepted = sorted(accepted_ids(self.history))
        (here / "accepted.json").write_bytes(msgspec.json.encode(accepted))
        self.history = History(TENANT)
        return {**counts, "accepted": len(accepted)}

    def settle(self, folder: Path, deliveries: tuple[Delivery, ...]) -> None:
        """Webhooks come for a while yet; again when there are more."""
        closing = Closing(
            tuple(self.sales), tuple(self.kept_trying), deliveries, tuple(self.listeners), self.stocks
        )
        (folder / self.name / "closing.json").write_bytes(msgspec.json.encode(closing))


def endings(history: History) -> dict[str, int]:
    """How many attempts were answered with yes, with no, and in a way that leaves open what became of them."""
    kinds = {Ok: "ok", Refused: "refused", Unknown: "unknown"}
    counts = dict.fromkeys(kinds.values(), 0)
    for entry in history.entries:
        if (name := kinds.get(type(entry))) is not None:
            counts[name] += 1
    return counts


def accepted_ids(history: History) -> set[str]:
    """Orders that somebody was told of."""
    return {
        ok.order_id
        for operation in operations(history.entries)
        if operation.first.kind in PLACES
        for ok in operation.oks
    }
