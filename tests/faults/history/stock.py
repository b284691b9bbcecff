"""Units, limits and the rate."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping

from faults.history.finding import Case, Damage, Finding, words
from faults.history.record import Kind

from peakclip.audit.checks.rate import busiest_second
from peakclip.audit.facts import ACTIVE, OrderRow, SaleRow


def units(case: Case, kept_trying: Collection[str]) -> Iterator[Finding]:
    """`kept_trying`: sales whose buyers went on until nobody got anything."""
    held: Counter[str] = Counter()
    for row in case.rows.values():
        if row.sale_id is not None and row.status in ACTIVE:
            held[row.sale_id] += row.quantity
    for sale in case.facts.sales:
        yield from _of_sale(case, sale, held[sale.sale_id], kept_trying)
    known = {sale.sale_id for sale in case.facts.sales}
    for sale_id in sorted({row.sale_id for row in case.rows.values() if row.sale_id is not None} - known):
        yield Finding(Damage.LOST, (sale_id,), "orders of a sale that is not there")


def _of_sale(case: Case, sale: SaleRow, held: int, kept_trying: Collection[str]) -> Iterator[Finding]:
    aside = sum(
        n for one in case.facts.dead_letters for _, sale_id, n in one.units if sale_id == sale.sale_id
    )
    offered = (
        case.facts.counters.get(sale.sale_id, sale.available - aside) + aside
    )  # a dead letter keeps its units
    here = (
        f"{sale.initial} units: {held} in rows, {sale.available} available, {offered} on offer or aside; "
        f"the sale says {sale.reserved} reserved, {sale.sold} sold"
    )
    subjects = (sale.sale_id,)
    missing = sale.initial - held - sale.available
    if missing < 0 or offered > sale.available or sale.available < 0:
        yield Finding(Damage.OVERSOLD, subjects, here)
    elif missing > 0 or offered < sale.available:
        yield Finding(Damage.UNDERSOLD, subjects, here)
    elif sale.reserved + sale.sold != held:
        damage = Damage.OVERSOLD if sale.reserved + sale.sold < held else Damage.UNDERSOLD
        yield Finding(damage, subjects, here)
    elif sale.sale_id in kept_trying and offered > aside:
        refused = [
            one
            for one in case.operations
            if one.first.kind is Kind.PURCHASE and one.first.sale == sale.sale_id and not one.oks
        ]
        last = f"the last who got nothing: {words(refused[-1:])}"
        yield Finding(Damage.UNDERSOLD, subjects, f"{here}; buyers kept trying; {last}")


def limits(case: Case) -> Iterator[Finding]:
    most = {sale.sale_id: sale.per_customer_limit for sale in case.facts.sales}
    held: Counter[tuple[str, str, str]] = Counter()
    for row in case.rows.values():
        if row.sale_id in most and row.status in ACTIVE:
            held[row.sale_id, row.tenant, row.customer_id] += row.quantity
    for (sale, _, customer), number in held.items():
        if number > most[sale]:
            yield Finding(Damage.LIMIT, (sale, customer), f"{number} units, allowed {most[sale]}")


def at_once(case: Case, stocks: Mapping[str, int]) -> Iterator[Finding]:
    """What was held at the same time, by the database's clock. The end of a run no longer shows that.

    `stocks`: the most units that a sale ever had, where whoever opened it knows; its limit has never changed then.
    """
    limits = {sale.sale_id: sale.per_customer_limit for sale in case.facts.sales if sale.sale_id in stocks}
    steps: defaultdict[tuple[str, str, str], list[tuple[float, int]]] = defaultdict(list)
    for row in case.rows.values():
        if row.sale_id is None or row.sale_id not in limits or (since := _held_since(case, row)) is None:
            continue
        # Of units that went from hand to hand in one moment the return comes first.
        until = [] if row.cancelled_at is None else [(max(since, row.cancelled_at), -row.quantity)]
        for whose in (("", ""), (row.tenant, row.customer_id)):
            steps[row.sale_id, *whose] += [(since, row.quantity), *until]
    for (sale_id, _, customer), moves in steps.items():
        most, at, last = _most(moves)
        allowed = limits[sale_id] if customer else stocks[sale_id]
        if last <= allowed < most:  # what is too much in the end is found by what there is
            damage = Damage.LIMIT if customer else Damage.OVERSOLD
            yield Finding(damage, (sale_id, *filter(None, [customer])), f"{most} units at {at}, of {allowed}")


def _held_since(case: Case, row: OrderRow) -> float | None:
    """None: it never held anything, or it is not known when."""
    created = case.events.get(f"{row.order_id}:1")
    if created is None or created.status == "rejected" or row.status == "rejected":
        return None
    return None if row.status == "cancelled" and row.cancelled_at is None else created.at


def _most(moves: Iterable[tuple[float, int]]) -> tuple[int, float, int]:
    """How many at the most, when, and how many in the end."""
    held, most, when = 0, 0, 0.0
    for at, units in sorted(moves):
        held += units
        if held > most:
            most, when = held, at
    return most, when, held


def rate(case: Case) -> Iterator[Finding]:
    if (limit := case.facts.rate) is None:
        return
    starts = [row.started_at for row in case.facts.orders if row.started_at is not None]
    most, at = busiest_second(sorted(start for start in starts if start >= limit.since))
    allowed = math.floor(limit.per_second + limit.burst + 1e-9)
    if most > allowed:
        yield Finding(Damage.RATE, (), f"{most} starts in the second from {at}, allowed {allowed}")
