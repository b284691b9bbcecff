"""Orders and reviews that were asked for, beside those that are there."""

from __future__ import annotations

from collections.abc import Iterator

from faults.history.finding import Case, Damage, Finding, twice, words
from faults.history.record import PLACES, Kind, Operation

from peakclip.audit.facts import OrderRow


def orders(case: Case) -> Iterator[Finding]:
    asked_for: set[str] = set()
    for operation in case.operations:
        if operation.first.kind in PLACES:
            yield from _answered(case, operation)
            asked_for.update(one.order_id for one in operation.oks)
    for row in case.rows.values():
        if row.order_id not in asked_for:
            yield from _unanswered(case, row)
        yield from _as_asked(case, row)
    for order_id, times in twice(row.order_id for row in case.facts.orders):
        yield Finding(Damage.DUPLICATED, (order_id,), f"{times} rows")


def _answered(case: Case, operation: Operation) -> Iterator[Finding]:
    named = operation.first.order_id
    told = sorted({one.order_id for one in operation.oks})
    if told and told != [named]:
        yield Finding(
            Damage.DUPLICATED, (named, *told), f"the key names one order; {operation.words}; told {told}"
        )
    for order_id in told:
        if order_id not in case.rows and order_id not in case.aside:
            yield Finding(Damage.LOST, (order_id,), f"neither a row nor a dead letter; {operation.words}")


def _unanswered(case: Case, row: OrderRow) -> Iterator[Finding]:
    """Nobody was told of it: who asked for it may still wonder, but not have been refused."""
    found = case.asked(row.order_id, *PLACES)
    if not any(operation.may_have_happened for operation in found):
        yield Finding(Damage.EXTRA, (row.order_id,), f"a row, {row.status}; {words(found)}")


def _as_asked(case: Case, row: OrderRow) -> Iterator[Finding]:
    for operation in case.asked(row.order_id, *PLACES):
        asked = operation.first
        evidence = (
            f"{row.quantity} units of {row.sale_id} for {row.customer_id} in the row; {operation.words}"
        )
        if (row.sale_id, row.customer_id) != (asked.sale, asked.customer or row.customer_id):
            yield Finding(Damage.EXTRA, (row.order_id,), f"{evidence}, of {asked.sale} for {asked.customer}")
        elif row.quantity > asked.quantity:
            yield Finding(Damage.DUPLICATED, (row.order_id,), f"{evidence}, {asked.quantity} units")
        elif row.quantity < asked.quantity:
            yield Finding(Damage.LOST, (row.order_id,), f"{evidence}, {asked.quantity} units")
    price = case.facts.prices.get(row.sale_id or "")
    if price is not None and row.amount_cents != price * row.quantity:
        evidence = f"{row.amount_cents} cents for {row.quantity} units of {price} cents"
        yield Finding(Damage.WRONG, (row.order_id,), evidence)
    if row.status == "rejected" and row.reason is None:
        yield Finding(Damage.LOST, (row.order_id,), "rejected without a reason")


def reviews(case: Case) -> Iterator[Finding]:
    rows = {review.review_id: review for review in case.facts.reviews}
    for operation in case.operations:
        if operation.first.kind not in (Kind.REVIEW, Kind.REPLY):
            continue
        for ok in operation.oks:
            review = rows.get(ok.review_id or "")
            if review is None or (operation.first.kind is Kind.REPLY and not review.replied):
                subjects = (ok.order_id, ok.review_id or "?")
                yield Finding(Damage.LOST, subjects, f"the data does not show it; {operation.words}")
                break
    for review in rows.values():
        for kind, there in ((Kind.REVIEW, True), (Kind.REPLY, review.replied)):
            found = case.asked(review.order_id, kind)
            if there and not any(operation.may_have_happened for operation in found):
                yield Finding(Damage.EXTRA, (review.order_id, review.review_id), f"a {kind}; {words(found)}")
    for order_id, times in twice(review.order_id for review in case.facts.reviews):
        yield Finding(Damage.DUPLICATED, (order_id,), f"{times} reviews of one order")
