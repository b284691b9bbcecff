"""Invariant 6: a message that failed is accounted for."""

from __future__ import annotations

from peakclip.audit.facts import Facts
from peakclip.audit.result import CheckResult, violations


def check_dead_letters(facts: Facts) -> CheckResult:
    """6: a message that failed is a dead letter with cause and attempts, or it is done.

    Whether a readable order is done is judged by check 1; an unreadable one can only be a dead letter.
    """
    aside = facts.set_aside
    poor = [
        {"message_id": letter.message_id, "cause": letter.cause, "attempts": letter.attempts}
        for letter in facts.dead_letters
        if not letter.cause.strip() or letter.attempts < 1
    ]
    frames = [
        {"stream": "INTAKE", "seq": frame.seq, "message_id": frame.message_id}
        for frame in facts.intake.frames
        if frame.order_ids is None
        and frame.seq <= (facts.intake.finished_through or 0)
        and frame.message_id not in aside
    ]
    messages = [
        {"stream": "SECKILL", "seq": message.seq, "message_id": message.message_id}
        for message in facts.queue.orders
        if message.order_id is None
        and message.seq <= (facts.queue.finished_through or 0)
        and message.message_id not in aside
    ]
    events = [
        {"stream": "EVENTS", "seq": event.seq, "message_id": event.message_id}
        for event in facts.log.events
        if event.event_id is None
        and event.seq <= (facts.log.finished_through or 0)
        and event.message_id not in aside
    ]
    found = violations(
        6,
        ("dead letters without cause or attempts", poor, None),
        (
            "unreadable, taken from the queue, and not among the dead letters",
            frames + messages + events,
            None,
        ),
    )
    dropped = f", {len(facts.dropped)} given up by hand" if facts.dropped else ""
    return CheckResult(6, "failed messages", f"{len(facts.dead_letters)} dead letters{dropped}", found)
