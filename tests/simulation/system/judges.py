"""What is judged of a run: in the middle of it what must hold at every moment, at rest everything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Final, NamedTuple

from faults.history import effects, orders, sequence, stock, transitions
from faults.history.check import check
from faults.history.finding import Case, Damage, Finding, words
from faults.history.record import PLACES, Invoked, Refused
from simulation.system.facts import accepted_at, audited, rows, told
from simulation.system.world import World

from peakclip.audit.checks import judge

# What is no more than late in the middle of a run: rows, events and effects that are still to come.
_AT_REST_ONLY: Final = frozenset({Damage.LOST, Damage.EFFECT_MISSING})


class Found(NamedTuple):
    words: str
    damage: Damage | None = None  # None: no promise of those that the checker of histories knows


def at_every_moment(world: World) -> list[Found]:
    case = Case.of(world.customers.history, told(world))
    overtaking = bool(world.plan.faults)  # what a relay that died has in hand or on its way may come later
    found = chain(
        stock.limits(case), stock.rate(case), transitions.transitions(case), transitions.payments(case),
        sequence.events(case, overtaking=overtaking), sequence.line(case), sequence.answers(case),
        sequence.told(case), sequence.expiries(case), _by_now(case),
    )  # fmt: skip
    return _worded(found) + _worded(kept(world, case)) + _audit(world, at_rest=False)


def _by_now(case: Case) -> Iterator[Finding]:
    """Twice, or of nobody's asking: that is wrong before all is at rest, too."""
    found = chain(
        orders.orders(case), effects.events(case), effects.effects(case), effects.notifications(case)
    )
    return (one for one in found if one.damage not in _AT_REST_ONLY)


def at_rest(world: World) -> list[Found]:
    letters = {row["message_id"] for row in rows(world, "dead_letters")}
    lost = [
        Found(f"neither done nor a dead letter: {one}", Damage.LOST)
        for one in world.poisoned
        if one not in letters
    ]
    facts, history = told(world), world.customers.history
    found = [*check(history, facts), *kept(world, Case.of(history, facts))]
    return lost + _worded(found) + _audit(world, at_rest=True)


def kept(world: World, case: Case) -> Iterator[Finding]:
    """What 202 says: who has it buys, and is told so. One virtual clock stamps all, so before and after are exact."""
    if not world.plan.changes and not world.plan.poison:
        yield from _admitted_in_vain(case, apis=world.plan.apis)
    yield from _told_no(case, accepted_at(world))


def _admitted_in_vain(case: Case, *, apis: int) -> Iterator[Finding]:
    """Nobody has lowered the stock, and no message is beyond work: then whoever was admitted gets what was promised.

    Apart from the limit of each customer, which two API processes count apart for some milliseconds (docs/limits.md).
    """
    for row in case.rows.values():
        if row.status == "rejected" and not (row.reason == "limit-reached" and apis > 1):
            damage = Damage.LIMIT if row.reason == "limit-reached" else Damage.OVERSOLD
            yield Finding(damage, (row.order_id,), f"accepted, then rejected: {row.reason}")
    for letter in case.facts.dead_letters:
        yield Finding(
            Damage.LOST, (letter.message_id, *letter.order_ids), "set aside, and nothing was wrong with it"
        )


def _told_no(case: Case, accepted: Mapping[str, float]) -> Iterator[Finding]:
    """To who has bought, known to whom or not, nobody says no: a key that was accepted is answered so ever after."""
    asked: dict[int, Invoked] = {}
    for entry in case.entries:
        if isinstance(entry, Invoked):
            asked[entry.attempt] = entry
            continue
        invoked = asked[entry.attempt]
        order_id, row = invoked.order_id, case.rows.get(invoked.order_id)
        if not isinstance(entry, Refused) or invoked.kind not in PLACES or order_id not in accepted:
            continue
        if invoked.at > accepted[order_id] and (row is None or row.status != "rejected"):
            evidence = (
                f"refused {entry.problem}, asked at {invoked.at:.3f}, accepted at {accepted[order_id]:.3f}"
            )
            yield Finding(
                Damage.MISORDERED, (order_id,), f"{evidence}; {words(case.asked(order_id, *PLACES))}"
            )


def _worded(found: Iterable[Finding]) -> list[Found]:
    return [Found(f"{one.damage}: {one.subjects}: {one.evidence}", one.damage) for one in found]


def _audit(world: World, *, at_rest: bool) -> list[Found]:
    result = judge(audited(world, at_rest=at_rest))
    return [Found(f"audit: {one.message}: {list(one.rows)}") for one in result.violations]
