"""Invariants 2 and 3: units of a sale are never lost, doubled or invented, and limits per customer hold."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from peakclip.audit.facts import ACTIVE, Facts, SaleRow
from peakclip.audit.result import CheckResult, Harm, Violation, violations


def check_stock(facts: Facts) -> CheckResult:
    """2: initial = available + reserved + sold, and the orders hold exactly what is reserved and sold.

    A unit is held by an order or on offer. With initial 10, held 4 and available 5, one unit is neither
    (undersold); with available 7 one is both (duplicated); with held 11 one does not exist (oversold).
    """
    held: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for order in facts.orders:
        if order.sale_id is not None and order.status in ACTIVE:
            held[order.sale_id][order.status] += order.quantity
    found = [violation for sale in facts.sales for violation in _judge_sale(sale, held[sale.sale_id])]
    known = {sale.sale_id for sale in facts.sales}
    strays = [{"sale_id": i, "units": n.total()} for i, n in held.items() if i not in known]
    found += violations(2, ("orders hold units of a sale that does not exist", strays, None))
    units = sum(n.total() for n in held.values())
    return CheckResult(2, "stock", f"{len(facts.sales)} sales, {units} units held by orders", tuple(found))


def check_admission(facts: Facts) -> CheckResult:
    """2, at rest: every unit that is available in the database is on offer at the admission counter."""
    name = "admission counters"
    if not facts.at_rest:
        return CheckResult(2, name, not_checked="orders are under way; it holds only at rest")
    short: list[dict[str, Any]] = []
    over: list[dict[str, Any]] = []
    for sale in facts.sales:
        on_offer = facts.counters.get(sale.sale_id)
        row = {"sale_id": sale.sale_id, "on_offer": on_offer, "available": sale.available}
        if (on_offer or 0) < sale.available:  # without a counter nothing can be bought
            short.append(row)
        elif on_offer is not None and on_offer > sale.available:
            over.append(row)
    units = sum(row["available"] - (row["on_offer"] or 0) for row in short)
    found = (
        *violations(2, ("units are available, but not on offer", short, Harm.UNDERSOLD), units=units),
        *violations(2, ("more units are on offer than available", over, None)),
    )
    return CheckResult(2, name, f"{len(facts.counters)} counters for {len(facts.sales)} sales", found)


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


def _judge_sale(sale: SaleRow, by_status: Counter[str]) -> Iterable[Violation]:
    held = by_status.total()
    row = {
        "sale_id": sale.sale_id,
        "initial": sale.initial,
        "available": sale.available,
        "reserved": sale.reserved,
        "sold": sale.sold,
        "pending_payment": by_status["pending_payment"],
        "paid": by_status["paid"],
    }

    def violated(message: str, harm: Harm | None = None, units: int = 0) -> Violation:
        return Violation(2, message, [row], harm, units)

    if sale.initial != sale.available + sale.reserved + sale.sold:
        yield violated("initial is not available + reserved + sold")
    if (sale.reserved, sale.sold) != (by_status["pending_payment"], by_status["paid"]):
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
