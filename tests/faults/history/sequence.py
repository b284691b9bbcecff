"""Before and after: events against the life of an order, answers against real time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from faults.history.facts import Event
from faults.history.finding import REMEMBERED_SECONDS, Case, Damage, Finding, can_become, follows, words
from faults.history.record import PLACES, Invoked, Kind, Ok, Refusal, refusal
from faults.history.transitions import REACHES

from peakclip.audit.facts import CLOCK_MARGIN_SECONDS

_ANOTHER: Final = "idempotency-key-reused"  # who says so means another order


def events(case: Case, overtaking: bool) -> Iterator[Finding]:
    """By `version` they tell the life of the order; their places in the stream do so, too, unless `overtaking`.

    One relay publishes in the order of the outbox, repeats included. But the rows that it has claimed stay locked
    until PostgreSQL sees that it is gone (a frozen backend, a cut link), and its successor passes over them.
    """
    by_order: defaultdict[str, list[Event]] = defaultdict(list)
    for event in case.events.values():
        if event.version is not None:
            by_order[event.order_id].append(event)
    for order_id, in_stream in by_order.items():
        ordered = sorted(in_stream, key=lambda event: event.version or 0)
        if in_stream != ordered and not overtaking:
            yield Finding(Damage.MISORDERED, (order_id,), f"in the stream: {_told(in_stream)}")
        if not _legal(ordered):
            yield Finding(Damage.MISORDERED, (order_id,), f"not the life of an order: {_told(ordered)}")
        row = case.rows.get(order_id)
        if row is not None and row.version == ordered[-1].version and row.status != ordered[-1].status:
            yield Finding(Damage.MISORDERED, (order_id,), f"the row is {row.status}: {_told(ordered)}")


def _told(found: list[Event]) -> str:
    return ", ".join(f"{one.subject} {one.version} ({one.status}, message {one.seq})" for one in found)


def _legal(ordered: list[Event]) -> bool:
    first = ordered[0]
    if first.version == 1 and first.status not in ("created", "pending_payment", "rejected"):
        return False
    return all(
        follows(before.status or "", after.status or "")
        or (after.subject == "order.paid" and after.status == before.status)
        for before, after in pairwise(ordered)
        if after.version == (before.version or 0) + 1
    )


def line(case: Case) -> Iterator[Finding]:
    """An order stands in it once for each frame, however often its relay died in the middle."""
    newest: dict[tuple[str, str], float] = {}
    for one in case.facts.line:
        before = newest.get((one.frame, one.order_id))
        if before is not None and one.stored_at - before < REMEMBERED_SECONDS:
            evidence = f"in the line again, from the same frame {one.frame}, message {one.seq}"
            yield Finding(Damage.DUPLICATED, (one.order_id,), evidence)
        newest[one.frame, one.order_id] = one.stored_at


def answers(case: Case) -> Iterator[Finding]:
    """What an order was known to be when somebody asked must be able to become what that somebody was told.

    Of two answers that crossed each other either may be the older one. And who has bought is never told no, even if
    nobody had told them yet.
    """
    known: dict[str, str] = {}
    asked: dict[int, tuple[Invoked, str | None]] = {}
    for entry in case.entries:
        if isinstance(entry, Invoked):
            asked[entry.attempt] = entry, known.get(entry.order_id)
            continue
        invoked, before = asked[entry.attempt]
        order_id, kind = invoked.order_id, invoked.kind
        if (no := refusal(invoked, entry)) is not None and (since := _denies(case, invoked, before, no)):
            evidence = f"refused {no.problem} at {no.at:.3f}, asked at {no.asked:.3f}, after it was {since}"
            yield Finding(Damage.MISORDERED, (order_id,), f"{evidence}; {words(case.asked(order_id, kind))}")
        if not isinstance(entry, Ok) or (told := entry.status or REACHES.get(kind)) is None:
            continue
        # A new order that is asked for again gets its first answer again, and a review tells of no order.
        if before is not None and kind not in PLACES and not can_become(before, told):
            evidence = f"{told} at {entry.at:.3f}, asked after it was known as {before}"
            yield Finding(Damage.MISORDERED, (order_id,), f"{evidence}; {words(case.asked(order_id, kind))}")
        if can_become(known.get(order_id, told), told):
            known[order_id] = told


def _denies(case: Case, invoked: Invoked, before: str | None, no: Refusal) -> str:
    """What this answer contradicts, if anything. `before`: what the order was known as when this was asked for."""
    order_id, kind = invoked.order_id, invoked.kind
    if kind is Kind.READ:
        return f"known as {before}" if before is not None and no.problem == "order-not-found" else ""
    if kind not in PLACES:
        return ""
    if before is not None:
        return f"known as {before}"
    row = case.rows.get(order_id)
    if row is None or row.status == "rejected" or no.problem == _ANOTHER:
        return ""
    since = case.accepted_since(order_id)
    return f"accepted at {since:.3f}" if no.asked > since + CLOCK_MARGIN_SECONDS else ""


def told(case: Case) -> Iterator[Finding]:
    """What was told of an order must be able to become what its row is in the end."""
    for operation in case.operations:
        row = case.rows.get(operation.first.order_id)
        if row is None or operation.first.kind not in (*PLACES, Kind.READ):
            continue
        for ok in operation.oks:
            if ok.status is not None and not can_become(ok.status, row.status):
                yield Finding(
                    Damage.MISORDERED, (row.order_id,), f"the row is {row.status}; {operation.words}"
                )
                break


def addressed(case: Case) -> Iterator[Finding]:
    """An answer is about the order that was asked about. Of new orders, `orders` judges that."""
    for operation in case.operations:
        asked = operation.first
        if asked.kind in (*PLACES, Kind.REVIEW, Kind.REPLY):
            continue
        if others := sorted({ok.order_id for ok in operation.oks} - {asked.order_id}):
            evidence = f"answered about {', '.join(others)}; {operation.words}"
            yield Finding(Damage.WRONG, (asked.order_id, *others), evidence)


def expiries(case: Case) -> Iterator[Finding]:
    for row in case.rows.values():
        due = float("inf") if row.expires_at is None else row.expires_at
        if row.reason == "expired" and row.cancelled_at is not None and row.cancelled_at < due:
            yield Finding(
                Damage.MISORDERED, (row.order_id,), f"expired at {row.cancelled_at}, due at {row.expires_at}"
            )
