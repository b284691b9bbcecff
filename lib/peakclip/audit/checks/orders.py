"""Invariant 1: every accepted order becomes exactly one row, and every row was accepted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable
from typing import Any

from peakclip.audit.facts import Facts
from peakclip.audit.result import CheckResult, Harm, violations


def check_orders(facts: Facts) -> CheckResult:
    """1: what was accepted is exactly one row or still under way; no row is there that nobody accepted."""
    rows = Counter(order.order_id for order in facts.orders)
    parked = {order_id for letter in facts.dead_letters for order_id in letter.order_ids}
    given_up = {order_id for letter in facts.dropped for order_id in letter.order_ids}
    waiting = _waiting(facts)
    known = _accepted_by_streams(facts).union(facts.accepted or ())
    unsettled = known - rows.keys() - parked - given_up
    found = violations(
        1,
        (
            "accepted, but neither a row nor in a queue nor a dead letter",
            _last_seen(unsettled - waiting, facts),
            Harm.LOST,
        ),
        (
            "still in a queue although nothing is under way",
            _last_seen(unsettled & waiting, facts) if facts.at_rest else [],
            None,
        ),
        (
            "more than one row for one order",
            [{"order_id": i, "rows": n} for i, n in rows.items() if n > 1],
            Harm.DUPLICATED,
        ),
        ("a row that no frame holds: never accepted", _extra(facts, known), None),
        ("the row's quantity is not the accepted one", _other_quantity(facts), None),
    )
    clients = "no list from clients" if facts.accepted is None else f"{len(facts.accepted)} ids from clients"
    partly = "; extra rows are judged in part: older frames are purged" if facts.intake.complete_from else ""
    here = f"{len(rows)} rows, {len(unsettled & waiting)} waiting, {len(parked)} in dead letters"
    here += f", {len(given_up - rows.keys())} given up by hand" if given_up else ""
    return CheckResult(1, "accepted orders", f"{here}, {clients}{partly}", found)


def _accepted_by_streams(facts: Facts) -> set[str]:
    """Whatever is in a frame was or will be answered with 202; a client that lost the answer asks again."""
    known = {order_id for frame in facts.intake.frames for order_id in frame.order_ids or ()}
    known.update(message.order_id for message in facts.queue.orders if message.order_id is not None)
    return known


def _waiting(facts: Facts) -> set[str]:
    """Not yet relayed, or relayed and not yet finished, or waiting for another attempt, which is acknowledged.
    Without a consumer nothing is finished."""
    relayed = facts.intake.finished_through or 0
    finished = facts.queue.finished_through or 0
    waiting = {i for frame in facts.intake.frames if frame.seq > relayed for i in frame.order_ids or ()}
    waiting.update(m.order_id for m in facts.queue.orders if m.seq > finished and m.order_id is not None)
    return waiting.union(facts.queue.delayed)


def _last_seen(order_ids: Iterable[str], facts: Facts) -> list[dict[str, Any]]:
    """The orders, each with the last place where it was seen: there the search for the cause begins."""
    seen = dict.fromkeys(order_ids, "by a client")
    if not seen:
        return []
    for frame in facts.intake.frames:
        seen.update((i, f"INTAKE {frame.seq}") for i in frame.order_ids or () if i in seen)
    for message in facts.queue.orders:
        if message.order_id in seen:
            seen[message.order_id] = f"SECKILL {message.seq}"
    return [{"order_id": order_id, "seen": where} for order_id, where in sorted(seen.items())]


def _extra(facts: Facts, known: Container[str]) -> list[dict[str, Any]]:
    """Rows from the line that nobody accepted, judged as far back as all frames are still there."""
    return [
        {"order_id": order.order_id, "sale_id": order.sale_id, "customer_id": order.customer_id}
        for order in facts.orders
        if order.in_line and order.accepted_at >= facts.intake.complete_from and order.order_id not in known
    ]


def _other_quantity(facts: Facts) -> list[dict[str, Any]]:
    found = []
    for order in facts.orders:
        accepted = facts.accepted.get(order.order_id) if facts.accepted is not None else None
        if accepted is not None and accepted != order.quantity:
            found.append({"order_id": order.order_id, "quantity": order.quantity, "accepted": accepted})
    return found
