"""PURE. The named queries that the simulated processes use, and a few without a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from simulation.database import effects, moves, orders, sales, upkeep
from simulation.database.store import Steps

from peakclip.store import name_of

Statement = Callable[..., Steps[Any]]

NAMED: Final[dict[str, Statement]] = {
    one.__name__: one
    for one in (
        orders.drain_seckill, orders.create_orders, orders.find_order, orders.find_due_orders,
        orders.count_due_orders, moves.pay_order, moves.transition_order, moves.expire_orders, sales.create_sale,
        sales.find_sales, sales.change_sale, sales.remove_sale, upkeep.claim_outbox, upkeep.delete_outbox,
        upkeep.count_outbox, upkeep.dead_letter, upkeep.dead_letter_if_missing, upkeep.count_dead_letters,
        upkeep.begin_alone, upkeep.end_alone, effects.apply_effects,
    )
}  # fmt: skip
_OTHERS: Final[Mapping[str, Statement]] = {
    "select 1": upkeep.answers(1),
    "show synchronous_commit": upkeep.answers("on"),
    "show fsync": upkeep.answers("on"),
}


def named(text: str) -> Statement:
    """Raises KeyError for a statement that the model does not know."""
    return _OTHERS[text] if text in _OTHERS else NAMED[name_of(text)]
