"""What follows from a transition: its event, the effects of that, and what people are told."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Final

from faults.history.facts import Delivery, Event, Notification
from faults.history.finding import REMEMBERED_SECONDS, Case, Damage, Finding, twice, words
from faults.history.record import PLACES, Kind

from peakclip.audit.facts import CLOCK_MARGIN_SECONDS

_TELLS: Final = {"notify-customer": "customer", "notify-provider": "provider"}


def events(case: Case) -> Iterator[Finding]:
    """One for each transition and each review, and none else."""
    if case.facts.events_complete:
        yield from _without_event(case)
    for event in case.events.values():
        yield from _unexplained(case, event)
    yield from _seen_twice(case)


def _without_event(case: Case) -> Iterator[Finding]:
    due = {
        row.order_id: [f"{row.order_id}:{n}" for n in range(1, row.version + 1)] for row in case.rows.values()
    }
    for review in case.facts.reviews:
        due[review.review_id] = [f"{review.review_id}:created"]
        due[review.review_id] += [f"{review.review_id}:replied"] if review.replied else []
    aside = case.facts.set_aside
    for subject, ids in due.items():
        if gaps := [one for one in ids if one not in case.events and one not in aside]:
            yield Finding(Damage.LOST, (subject, *gaps), f"{len(ids)} transitions, and these have no event")


def _unexplained(case: Case, event: Event) -> Iterator[Finding]:
    subject, _, _ = event.event_id.rpartition(":")
    row = case.rows.get(subject)
    if event.version is not None and row is not None:
        if event.version > row.version:
            yield Finding(Damage.EXTRA, (event.event_id,), f"{event.subject}, and the row has {row.version}")
        return
    if event.version is None and any(review.review_id == subject for review in case.facts.reviews):
        return
    asked = case.asked(event.order_id, *(PLACES if event.version is not None else (Kind.REVIEW,)))
    if not any(one.may_have_happened for one in asked):
        yield Finding(Damage.EXTRA, (event.event_id,), f"{event.subject} without a row; {words(asked)}")
    elif not any(one.oks for one in asked):  # else it is found by what was told
        yield Finding(Damage.LOST, (subject,), f"{event.subject}, and no row; {words(asked)}")


def _seen_twice(case: Case) -> Iterator[Finding]:
    newest: dict[str, float] = {}
    for event in case.facts.events:
        before = newest.get(event.event_id)
        if before is not None and event.stored_at - before < REMEMBERED_SECONDS:
            yield Finding(Damage.DUPLICATED, (event.event_id,), f"in the stream again, message {event.seq}")
        newest[event.event_id] = event.stored_at


def effects(case: Case) -> Iterator[Finding]:
    aside = case.facts.set_aside
    for event in case.events.values():
        had = case.facts.effects.get(event.event_id, ())
        lacks = sorted(event.calls_for.difference(had))
        if lacks and aside.isdisjoint((event.event_id, event.message_id)):
            yield Finding(Damage.EFFECT_MISSING, (event.event_id,), f"{event.subject} without {lacks}")
        if others := sorted(set(had) - event.calls_for):
            yield Finding(Damage.EXTRA, (event.event_id,), f"{event.subject} does not call for {others}")
    for event_id, had in case.facts.effects.items():
        for effect, times in twice(had):
            yield Finding(Damage.DUPLICATED, (event_id,), f"{effect}: {times} rows")
        if event_id not in case.events and case.facts.events_complete and not case.is_transition(event_id):
            yield Finding(Damage.EXTRA, (event_id,), f"{list(had)} of something that never was")


def notifications(case: Case) -> Iterator[Finding]:
    told = {(one.event_id, one.audience) for one in case.facts.notifications}
    for event_id, had in case.facts.effects.items():
        for effect in had:
            if effect in _TELLS and (event_id, _TELLS[effect]) not in told:
                yield Finding(Damage.EFFECT_MISSING, (event_id,), f"{effect} is done, and nobody was told")
    for (event_id, audience, user), times in twice(
        (one.event_id, one.audience, one.user) for one in case.facts.notifications
    ):
        yield Finding(Damage.DUPLICATED, (event_id,), f"{audience} {user} was told {times} times")
    for one in case.facts.notifications:
        event = case.events.get(one.event_id)
        if event is not None and one.at < event.at:
            yield Finding(
                Damage.MISORDERED,
                (one.event_id,),
                f"{one.user} was told at {one.at}, it happened at {event.at}",
            )
        if event is None and case.facts.events_complete and not case.is_transition(one.event_id):
            yield Finding(Damage.EXTRA, (one.event_id,), f"{one.user} was told of what never was")
        if event is not None and one.kind != event.subject:
            yield Finding(Damage.WRONG, (one.event_id,), f"{one.user} was told {one.kind} of {event.subject}")
        row = None if event is None else case.rows.get(event.order_id)
        if row is not None and one.audience == "customer" and one.user != row.customer_id:
            evidence = f"{one.user} was told of an order of {row.customer_id}"
            yield Finding(Damage.WRONG, (one.event_id,), evidence)


def deliveries(case: Case, listeners: Collection[str]) -> Iterator[Finding]:
    """`listeners`: customers who had a webhook from the beginning, as whoever registered them knows it."""
    if case.facts.deliveries is None:
        return
    for one in case.facts.notifications:
        if one.webhook is None and one.audience == "customer" and one.user in listeners:
            yield Finding(Damage.EFFECT_MISSING, (one.event_id,), f"no webhook of it is owed to {one.user}")
    due = {one.webhook: one for one in case.facts.notifications if one.webhook is not None}
    owed = {(one.kind, one.user, one.event_id.rpartition(":")[0]) for one in due.values()}
    first = {one.delivery_id: one for one in reversed(case.facts.deliveries)}
    for delivery_id, notification in due.items():
        if delivery_id not in first and f"delivery:{delivery_id}" not in case.facts.set_aside:
            subjects = (notification.event_id, delivery_id)
            yield Finding(Damage.EFFECT_MISSING, subjects, f"{notification.user} got no webhook")
    for one in first.values():
        here = f"webhook {one.kind} of {one.subject} to {one.user}"
        told = due.get(one.delivery_id)
        event = None if told is None else case.events.get(told.event_id)
        if told is None and (one.kind, one.user, one.subject) in owed:
            yield Finding(Damage.DUPLICATED, (one.delivery_id,), f"{here}, again under another key")
        elif told is None:
            yield Finding(Damage.EXTRA, (one.delivery_id,), f"{here}, of what nobody was told")
        elif event is not None and one.at + CLOCK_MARGIN_SECONDS < event.at:
            evidence = f"{here} came at {one.at}, it happened at {event.at}"
            yield Finding(Damage.MISORDERED, (event.event_id, one.delivery_id), evidence)
    yield from _as_owed(case.facts.deliveries, due)


def _as_owed(found: Collection[Delivery], due: Mapping[str, Notification]) -> Iterator[Finding]:
    """Each that came under the id of one that is owed says the same, the second one too."""
    for one in dict.fromkeys(replace(one, at=0.0) for one in found):
        if (told := due.get(one.delivery_id)) is None:
            continue
        owed = told.kind, told.user, told.event_id.rpartition(":")[0]
        if (one.kind, one.user, one.subject) != owed:
            evidence = f"webhook {one.kind} of {one.subject} to {one.user}, owed was {' '.join(owed)}"
            yield Finding(Damage.WRONG, (told.event_id, one.delivery_id), evidence)
