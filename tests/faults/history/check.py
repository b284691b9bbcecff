"""Judges a run: what clients asked for and were told, against what the system holds at rest.

Pure. What nobody knows the outcome of may have happened or not, but at most once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import chain

from faults.history import effects, orders, sequence, stock, transitions
from faults.history.facts import Facts
from faults.history.finding import Case, Damage, Finding
from faults.history.record import History

__all__ = ["Damage", "Finding", "check"]


def check(
    history: History,
    facts: Facts,
    *,
    kept_trying: Collection[str] = (),
    overtaking: bool = True,
    listeners: Collection[str] = (),
    stocks: Mapping[str, int] | None = None,
) -> tuple[Finding, ...]:
    """`kept_trying`: sales whose buyers went on until nobody got anything.

    `overtaking`: in the stream a later event of an order may come before an earlier one. So users are told
    (docs/reference/events.md); False where nothing can have held a relay's claim beyond the relay itself.

    `listeners`: customers who were registered with a webhook before their first order. A webhook is told everything.

    `stocks`: sale -> the most units it ever had, where that is known and its limit has never changed.
    """
    case = Case.of(history, facts)
    return tuple(
        chain(
            orders.orders(case),
            orders.reviews(case),
            transitions.transitions(case),
            transitions.payments(case),
            stock.units(case, kept_trying),
            stock.limits(case),
            stock.at_once(case, stocks or {}),
            stock.rate(case),
            sequence.events(case, overtaking),
            sequence.line(case),
            sequence.answers(case),
            sequence.told(case),
            sequence.addressed(case),
            sequence.expiries(case),
            effects.events(case),
            effects.effects(case),
            effects.notifications(case),
            effects.deliveries(case, frozenset(listeners)),
        )
    )
