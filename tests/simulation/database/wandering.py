"""A random walk over three sessions: the same walk is told the same on the model and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from simulation.database.places import Place, Session, contents, settled, told

TENANT: Final = "t"
_SALES: Final = ("sa", "sb", "gone")  # the last one is not there
_ORDERS: Final = [str(uuid.uuid5(uuid.NAMESPACE_OID, f"order {number}")) for number in range(8)]
_PAYMENTS: Final = [str(uuid.uuid5(uuid.NAMESPACE_OID, f"payment {number}")) for number in range(5)]
_CUSTOMERS: Final = ("ada", "ben", "cyd")


async def make_sales(session: Session) -> None:
    opens = datetime(2026, 1, 1, tzinfo=UTC)
    for sale_id, stock, limit in (("sa", 4, 2), ("sb", 3, 3)):
        await session.run(
            "create_sale",
            sale_id,
            TENANT,
            "shoes",
            100,
            stock,
            opens,
            opens + timedelta(days=999),
            limit,
            3600,
            "f",
        )


class Walk:
    """`seen`: every step with its answers, who waits after it, and what was committed by then."""

    def __init__(self, seed: int) -> None:
        self.seen: list[tuple[Any, ...]] = []
        self._chance = random.Random(seed)
        self._sessions: list[Session] = []
        self._running: dict[int, asyncio.Task[Any]] = {}
        self._open: set[int] = set()
        self._events: list[dict[str, Any]] = []

    async def go(self, place: Place, steps: int) -> None:
        self._sessions = [await place.session() for _ in range(3)]
        await make_sales(self._sessions[0])
        for _ in range(steps):
            await self._step(place)
        while self._open or self._running:
            free = [number for number in sorted(self._open) if number not in self._running]
            await self._end(free[0], "commit")
            self.seen.append(("end", free[0], await self._ended(), await contents(place)))

    async def _step(self, place: Place) -> None:
        free = [number for number in range(3) if number not in self._running]
        number = self._chance.choice(free)
        if number in self._open and self._chance.random() < 0.3:
            word = self._chance.choice(("commit", "commit", "rollback"))
            await self._end(number, word)
            self.seen.append((word, number, await self._ended(), await contents(place)))
            return
        if number not in self._open and self._chance.random() < 0.4:
            await self._sessions[number].begin()
            self._open.add(number)
        if self._chance.random() < 0.1 and not self._open:
            await place.expire(self._chance.choice(_ORDERS))
        name, args = self._asked()
        running = asyncio.create_task(self._sessions[number].run(name, *args))
        answer = await settled(self._sessions[number], running)
        if running.done():
            _look(running)
        else:
            self._running[number] = running
        self.seen.append((name, args, number, answer, await self._ended(), await contents(place)))
        if len(self._running) > 1:
            await self._cancel_one(place, number)

    async def _cancel_one(self, place: Place, number: int) -> None:
        """Who of two that one transaction wakes comes first is a matter of luck: so only one ever waits."""
        running = self._running.pop(number)
        await place.cancel(self._sessions[number])
        await asyncio.wait([running])
        self.seen.append(("cancel", number, _look(running), await self._ended(), await contents(place)))

    async def _end(self, number: int, word: str) -> None:
        await getattr(self._sessions[number], word)()
        self._open.discard(number)

    async def _ended(self) -> list[tuple[int, Any]]:
        """Those that waited and do no longer, or still do; an end of one may be what another waits for."""
        found: list[tuple[int, Any]] = []
        before = -1
        while before != len(found):
            before = len(found)
            for number, running in sorted(self._running.items()):
                answer = await settled(self._sessions[number], running)
                if running.done():
                    _look(running)
                    del self._running[number]
                    found.append((number, answer))
        return [*sorted(found), *((number, "waits") for number in sorted(self._running))]

    # -- what is asked -------------------------------------------------------------------------------------

    def _asked(self) -> tuple[str, tuple[Any, ...]]:
        kinds: list[tuple[int, Callable[[], tuple[str, tuple[Any, ...]]]]] = [
            (8, self._drain), (5, self._pay), (3, self._cancel), (3, self._expire), (2, self._outbox),
            (1, self._letter), (1, self._alone), (3, self._effects), (1, self._change), (1, self._remove),
            (1, self._find),
        ]  # fmt: skip
        (work,) = self._chance.choices([kind for _, kind in kinds], [often for often, _ in kinds])
        return work()

    def _drain(self) -> tuple[str, tuple[Any, ...]]:
        chance, count = self._chance, self._chance.randrange(1, 6)
        ids = [chance.choice(_ORDERS) for _ in range(count)]
        by_order = {
            one: (chance.choice(_CUSTOMERS), chance.choice((*_SALES, "sa")), chance.randrange(1, 3))
            for one in sorted(set(ids))
        }
        columns = (
            ids, [TENANT] * count, [by_order[one][0] for one in ids], [by_order[one][1] for one in ids],
            [by_order[one][2] for one in ids], [f"f{chance.randrange(3)}" for _ in ids], ["p"] * count,
            [1.7e9] * count, [""] * count,
        )  # fmt: skip
        return "drain_seckill", (*columns, 1.7e9)

    def _pay(self) -> tuple[str, tuple[Any, ...]]:
        order, payment = self._chance.choice(_ORDERS), self._chance.choice(_PAYMENTS)
        customer = self._chance.choice((None, None, "ada"))
        return "pay_order", (TENANT, order, customer, payment, "")

    def _cancel(self) -> tuple[str, tuple[Any, ...]]:
        order, key = self._chance.choice(_ORDERS), self._chance.choice((None, "k1", "k2"))
        action = self._chance.choice(("cancel", "cancel", "cancel", "start"))
        return "transition_order", (TENANT, order, action, None, None, "cancelled-by-customer", key, "")

    def _expire(self) -> tuple[str, tuple[Any, ...]]:
        return "expire_orders", ([self._chance.choice(_ORDERS) for _ in range(self._chance.randrange(1, 5))],)

    def _outbox(self) -> tuple[str, tuple[Any, ...]]:
        return self._chance.choice((("count_outbox", ()), ("count_due_orders", ())))

    def _letter(self) -> tuple[str, tuple[Any, ...]]:
        name = self._chance.choice(("dead_letter", "dead_letter_if_missing"))
        message = f"m{self._chance.randrange(3)}"
        return name, (message, "orders", "s", '{"a": "b"}', b"x", f"c{self._chance.randrange(9)}", 3)

    def _alone(self) -> tuple[str, tuple[Any, ...]]:
        name = self._chance.choice(("begin_alone", "begin_alone", "end_alone"))
        return name, ("orders", f"m{self._chance.randrange(2)}")

    def _effects(self) -> tuple[str, tuple[Any, ...]]:
        events = []
        for _ in range(self._chance.randrange(1, 4)):
            order, version = self._chance.choice(_ORDERS), self._chance.randrange(1, 4)
            kind = self._chance.choice(("created", "paid", "cancelled", "rejected"))
            data = {
                "order_id": order, "tenant": TENANT, "customer_id": self._chance.choice(_CUSTOMERS),
                "version": version, "status": "pending_payment" if kind == "created" else kind, "sale_id": "sa",
                "at": "2026-06-01T12:00:00+00:00", "expires_at": "2026-06-01T13:00:00+00:00",
                "reason": self._chance.choice((None, "expired", "sold-out")), "amount_cents": 100,
                "refunded_cents": self._chance.choice((0, 100)),
            }  # fmt: skip
            event_id = f"{order}:{version}"
            events.append({"event_id": event_id, "subject": f"order.{kind}", "attempts": 1, "data": data})
        return "apply_effects", (msgspec.json.encode(events).decode(),)

    def _change(self) -> tuple[str, tuple[Any, ...]]:
        initial, units = self._chance.randrange(2, 6), self._chance.randrange(-2, 3)
        changes = self._chance.choice(
            ("{}", '{"product": "boots"}', '{"closes_at": "2025-01-01T00:00:00+00:00"}')
        )
        return "change_sale", (self._chance.choice(_SALES), TENANT, changes, initial, units, "p")

    def _remove(self) -> tuple[str, tuple[Any, ...]]:
        return "remove_sale", (self._chance.choice(_SALES), TENANT, self._chance.randrange(2, 5))

    def _find(self) -> tuple[str, tuple[Any, ...]]:
        return self._chance.choice(
            (("find_order", (self._chance.choice(_ORDERS),)), ("find_sales", (list(_SALES),)))
        )


def _look(running: asyncio.Task[Any]) -> Any:
    """So that nobody says that its failure was never looked at."""
    return told(running.exception() or running.result())
