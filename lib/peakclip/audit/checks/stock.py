"""Invariants 2 and 3: units of a sale are never lost, doubled or invented, and limits per customer hold."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from peakclip.audit.facts import ACTIVE, RESERVED, SOLD, Facts, Movement, OrderRow, SaleRow
from peakclip.audit.result import CheckResult, Harm, Violation, violations


def check_stock(facts: Facts) -> CheckResult:
    """2: initial = available + reserved + sold, and the orders hold exactly what is reserved and sold.

    A unit is held by an order or on offer. With initial 10, held 4 and available 5, one unit is neither
    (undersold); with available 7 one is both (duplicated); with held 11 one does not exist (oversold).
    """
    held: defaultdict[str, Counter[str]] = defaultdict(Counter)
    states_unknown: list[dict[str, Any]] = []
    for order in facts.orders:
        if order.sale_id is not None and order.status in ACTIVE:
            held[order.sale_id][order.status] += order.quantity
        elif order.sale_id is not None and order.status not in ("cancelled", "rejected"):
            states_unknown.append({"order_id": order.order_id, "status": order.status})
    found = [violation for sale in facts.sales for violation in _judge_sale(sale, held[sale.sale_id])]
    known = {sale.sale_id for sale in facts.sales}
    strays = [{"sale_id": i, "units": n.total()} for i, n in held.items() if i not in known]
    found += violations(
        2,
        ("orders hold units of a sale that does not exist", strays, None),
        ("orders of a sale in a state that no such order has", states_unknown, None),
    )
    units = sum(n.total() for n in held.values())
    return CheckResult(2, "stock", f"{len(facts.sales)} sales, {units} units held by orders", tuple(found))


def check_admission(facts: Facts) -> CheckResult:
    """2, at rest: every unit that is available in the database is on offer at the admission counter, or was taken
    from it by an order that is a dead letter: it may be sent back to work, and gives its units back when dropped."""
    name = "admission counters"
    if not facts.at_rest:
        return CheckResult(2, name, not_checked="orders are under way; it holds only at rest")
    short: list[dict[str, Any]] = []
    over: list[dict[str, Any]] = []
    rows = {order.order_id for order in facts.orders}
    waiting: Counter[str] = Counter()
    for letter in facts.dead_letters:
        for order_id, sale_id, quantity in letter.units:
            waiting[sale_id] += 0 if order_id in rows else quantity
    for sale in facts.sales:
        on_offer = facts.counters.get(sale.sale_id)
        row = {"sale_id": sale.sale_id, "on_offer": on_offer, "available": sale.available}
        if waiting[sale.sale_id]:
            row["in_dead_letters"] = waiting[sale.sale_id]
        expected = sale.available - waiting[sale.sale_id]
        if (on_offer or 0) < expected:  # without a counter nothing can be bought
            short.append(row)
        elif on_offer is not None and on_offer > expected:
            over.append(row)
    units = sum(row["available"] - row.get("in_dead_letters", 0) - (row["on_offer"] or 0) for row in short)
    found = (
        *violations(2, ("units are available, but not on offer", short, Harm.UNDERSOLD), units=units),
        *violations(2, ("more units are on offer than available", over, None)),
    )
    held = f", {waiting.total()} units wait in dead letters" if waiting.total() else ""
    return CheckResult(2, name, f"{len(facts.counters)} counters for {len(facts.sales)} sales{held}", found)


def check_limits(facts: Facts) -> CheckResult:
    """3: no customer holds more units of a sale than its limit. Orders that were cancelled do not count."""
    limits = {sale.sale_id: sale.per_customer_limit for sale in facts.sales}
    held: Counter[tuple[str, str, str]] = Counter()
    for order in facts.orders:
        if order.sale_id is not None and order.status in ACTIVE:
            held[order.sale_id, order.tenant, order.customer_id] += order.quantity
    over = [
        {"sale_id": sale, "tenant": tenant, "customer_id": customer, "units": units, "limit": limits[sale]}
        for (sale, tenant, customer), units in held.items()
        if units > limits.get(sale, math.inf)
    ]
    found = violations(3, ("customers hold more than the limit", over, None))
    return CheckResult(3, "limit per customer", f"{len(held)} customers of sales", found)


def check_returns(facts: Facts) -> CheckResult:
    """3: units of a cancelled order go back on offer once: by themselves (c-<order>), or with others that expired
    (x-<first of them>). A movement of one id is made once, whatever it is. What is missing is judged at rest."""
    name = "returned units"
    orders = {order.order_id: order for order in facts.orders}
    back: Counter[str] = Counter()
    ids: Counter[tuple[str, str]] = Counter()
    baseless: list[dict[str, Any]] = []
    for movement in facts.offer.movements:
        if movement.message_id:
            ids[movement.sale_id, movement.message_id] += 1
        kind, _, order_id = movement.message_id.partition("-")
        if kind in ("c", "x"):
            back[movement.sale_id] += movement.units
            if not _explains(orders.get(order_id), movement, expired=kind == "x"):
                baseless.append({"sale_id": movement.sale_id, "message_id": movement.message_id})
    gone: Counter[str] = Counter()
    for order in facts.orders:
        if order.sale_id is not None and order.status == "cancelled":
            gone[order.sale_id] += order.quantity
    twice = [{"sale_id": s, "message_id": i, "times": n} for (s, i), n in ids.items() if n > 1]
    more, short = back - gone, gone - back
    found = (
        *violations(
            3,
            ("a movement of an admission counter twice", twice, None),
            ("units returned for an order that does not explain them", baseless, None),
        ),
        *violations(
            3,
            ("more units returned than orders were cancelled", _sums(more, gone, back), Harm.DUPLICATED),
            units=more.total(),
        ),
    )
    if facts.at_rest and facts.offer.complete:
        found += violations(
            3,
            ("units of cancelled orders that were not returned", _sums(short, gone, back), Harm.UNDERSOLD),
            units=short.total(),
        )
    part = "" if facts.offer.complete else "; judged in part: older movements are purged"
    return CheckResult(
        3, name, f"{gone.total()} units of cancelled orders, {back.total()} returned{part}", found
    )


def _sums(sales: Iterable[str], gone: Counter[str], back: Counter[str]) -> list[dict[str, Any]]:
    return [{"sale_id": i, "cancelled": gone[i], "returned": back[i]} for i in sorted(sales)]


def _explains(order: OrderRow | None, movement: Movement, *, expired: bool) -> bool:
    """A batch that expired is named by its first order, and has at least its units."""
    if order is None or order.status != "cancelled" or order.sale_id != movement.sale_id:
        return False
    if expired:
        return order.reason == "expired" and movement.units >= order.quantity
    return order.reason != "expired" and movement.units == order.quantity


def _judge_sale(sale: SaleRow, by_status: Counter[str]) -> Iterable[Violation]:
    held = by_status.total()
    reserved = sum(by_status[status] for status in RESERVED)
    sold = sum(by_status[status] for status in SOLD)
    row = {
        "sale_id": sale.sale_id,
        "initial": sale.initial,
        "available": sale.available,
        "reserved": sale.reserved,
        "sold": sale.sold,
        "reserved_by_orders": reserved,
        "sold_to_orders": sold,
    }

    def violated(message: str, harm: Harm | None = None, units: int = 0) -> Violation:
        return Violation(2, message, [row], harm, units)

    if sale.initial != sale.available + sale.reserved + sale.sold:
        yield violated("initial is not available + reserved + sold")
    if (sale.reserved, sale.sold) != (reserved, sold):
        yield violated("reserved and sold are not what the orders hold")
    oversold = max(0, held - sale.initial)
    both = (
        sale.available + held - sale.initial - oversold
    )  # below 0: units that are neither held nor on offer
    if oversold:
        yield violated("orders hold more units than there were", Harm.OVERSOLD, oversold)
    if both > 0:
        yield violated("units are held by an order and on offer as well", Harm.DUPLICATED, both)
    if both < 0:
        yield violated("units are neither held by an order nor on offer", Harm.UNDERSOLD, -both)
