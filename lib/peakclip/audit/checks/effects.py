"""Invariant 5: every transition has its event, and every event has each of its effects once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from peakclip.audit.events import transition_of
from peakclip.audit.facts import Event, Facts
from peakclip.audit.result import CheckResult, violations


def check_events(facts: Facts) -> CheckResult:
    """5: the events of an order are its versions 1, 2, … and nothing else. What is missing is judged at rest."""
    told: defaultdict[str, set[int]] = defaultdict(set)
    ids = {event.event_id for event in facts.log.events if event.event_id is not None}
    for event_id in ids.union(facts.effects, facts.set_aside):
        if (transition := transition_of(event_id)) is not None:
            told[transition[0]].add(transition[1])
    missing: list[dict[str, Any]] = []
    invented: list[dict[str, Any]] = []
    for order in facts.orders:
        versions = told.get(order.order_id, set())
        if facts.at_rest and len(versions) < order.version:
            gaps = sorted(set(range(1, order.version + 1)) - versions)
            missing.append({"order_id": order.order_id, "version": order.version, "without_event": gaps})
        if beyond := [version for version in versions if version > order.version]:
            invented.append({"order_id": order.order_id, "version": order.version, "events": sorted(beyond)})
    found = violations(
        5,
        ("transitions without their event", missing, None),
        ("events of transitions that never were", invented, None),
    )
    part = "" if facts.at_rest else "; whether one is missing is judged at rest"
    return CheckResult(5, "events of transitions", f"{len(ids)} events in the stream{part}", found)


def check_effects(facts: Facts) -> CheckResult:
    """5: an event that is finished has had each effect that it calls for, once, and no other."""
    under_way = _under_way(facts)
    aside = facts.set_aside
    missing: list[dict[str, Any]] = []
    uncalled: list[dict[str, Any]] = []
    for event_id, event in _first(facts.log.events).items():
        had = facts.effects.get(event_id, ())
        waits = event_id in under_way or not aside.isdisjoint((event_id, event.message_id))
        if (lacks := event.calls_for.difference(had)) and not waits:
            missing.append({"event_id": event_id, "seq": event.seq, "without": sorted(lacks)})
        if others := sorted(set(had) - event.calls_for):
            uncalled.append({"event_id": event_id, "effects": others})
    found = violations(
        5,
        ("events that are finished and lack effects", missing, None),
        ("effects that their event does not call for", uncalled, None),
        ("effects twice", _twice(facts), None),
        ("sums that are not those of their events", _wrong_sums(facts), None),
    )
    effects = sum(len(had) for had in facts.effects.values())
    detail = f"{effects} effects of {len(facts.effects)} events, {len(under_way)} events not finished"
    return CheckResult(5, "effects happen once", f"{detail}, {len(facts.sums)} sums counted anew", found)


def _first(events: Iterable[Event]) -> dict[str, Event]:
    """An event that comes again, or was published twice, is one event."""
    first: dict[str, Event] = {}
    for event in events:
        if event.event_id is not None:
            first.setdefault(event.event_id, event)
    return first


def _under_way(facts: Facts) -> set[str]:
    """Ids of events that are not finished, or whose finished message waits for another attempt under its own id."""
    finished = facts.log.finished_through or 0
    waiting = facts.log.delayed
    return {
        event.event_id
        for event in facts.log.events
        if event.event_id is not None
        and (event.seq > finished or event.message_id in waiting or event.event_id in waiting)
    }


def _twice(facts: Facts) -> list[dict[str, Any]]:
    return [
        {"event_id": event_id, "effect": effect, "times": times}
        for event_id, had in facts.effects.items()
        if len(had) != len(set(had))
        for effect, times in Counter(had).items()
        if times > 1
    ]


def _wrong_sums(facts: Facts) -> list[dict[str, Any]]:
    return [
        {"of": one.of, "kept": one.kept, "counted": one.counted}
        for one in facts.sums
        if one.kept != one.counted
    ]
