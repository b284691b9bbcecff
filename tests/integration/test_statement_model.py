"""The model of the statements (tests/simulation) is honest: PostgreSQL does what it says, schedule by schedule.

Two transactions on two connections, a clock that the test moves, and every order of their beginnings and ends: after
each move the model says who waits for whom, who has answered what, and in the end what is in the tables.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from simulation import mistakes
from simulation.rows import FAILED, Model, Program, World, hold
from simulation.statements import Body, cancel, expire, opening, order_key, pay
from support import TENANT, until

pytestmark = pytest.mark.integration

DEADLINE = datetime(2026, 6, 1, tzinfo=UTC)
IDS = {name: uuid.uuid5(uuid.NAMESPACE_OID, name) for name in ("o1", "o2", "A", "B")}
NAMES = {identity: name for name, identity in IDS.items()}

# The functions ask for the time without a schema, so this one answers them. A sequence is not part of a transaction:
# its value is seen by everybody at once, also by a statement that is waiting.
CLOCK = """
create schema clock;
create sequence clock.ticks minvalue 0 start 0;
create function clock.clock_timestamp() returns timestamptz language sql volatile as $$
  select timestamptz '2026-06-01 00:00:00Z' + (last_value - 1) * interval '1 second' from clock.ticks
$$;
"""

# pay_order as it was before it locked the order first (`mistakes.pay_without_a_lock`).
PAY_WITHOUT_A_LOCK = """
create function pay_without_a_lock(p_order_id uuid, p_payment_id uuid) returns text language plpgsql as $$
declare
  o orders;
begin
  update orders set status = 'paid', paid_at = clock_timestamp(), payment_id = p_payment_id, version = version + 1
  where order_id = p_order_id and paid_at is null and status = 'pending_payment' and clock_timestamp() < expires_at
  returning * into o;
  if o.order_id is not null then
    insert into payments (payment_id, kind, order_id, tenant, amount_cents)
    values (p_payment_id, 'payment', o.order_id, o.tenant, o.amount_cents);
    update sales set reserved = reserved - o.quantity, sold = sold + o.quantity where sale_id = o.sale_id;
    perform emit_order_event(o, 'paid', '');
    return 'done';
  end if;
  select * into o from orders where order_id = p_order_id;
  if o.payment_id = p_payment_id then
    return 'repeated';
  end if;
  insert into payments (payment_id, kind, order_id, tenant, amount_cents)
  select p_payment_id, k.kind, o.order_id, o.tenant, o.amount_cents from unnest(array['payment', 'refund']) as k (kind)
  on conflict do nothing;
  return 'lost';
end $$;
"""


@dataclass(frozen=True)
class Actor:
    """A transaction, in the model and for PostgreSQL: a query that answers with one value."""

    name: str
    program: Program
    query: str
    arguments: tuple[Any, ...]


def payer(payment: str) -> Actor:
    query = f"select outcome from pay_order('{TENANT}', $1, null, $2, '')"
    return Actor(f"pay {payment}", pay("o1", payment), query, (IDS["o1"], IDS[payment]))


def hasty(payment: str) -> Actor:
    query = "select pay_without_a_lock($1, $2)"
    program = mistakes.pay_without_a_lock("o1", payment)
    return Actor(f"hasty {payment}", program, query, (IDS["o1"], IDS[payment]))


def canceller() -> Actor:
    arguments = f"'{TENANT}', $1, 'cancel', null, null, 'cancelled-by-customer', null, ''"
    query = f"select outcome from transition_order({arguments})"
    return Actor("cancel", cancel("o1"), query, (IDS["o1"],))


def reaper(*names: str) -> Actor:
    query = "select 'expired ' || expired from expire_orders($1)"
    return Actor(f"expire {' '.join(names)}", expire(*names), query, ([IDS[name] for name in names],))


def locker() -> Actor:
    """Takes the order's row and changes nothing: who waits for it goes on without judging again."""

    def body() -> Body:
        yield hold(order_key("o1"))
        return "held"

    query = "select 'held' from orders where order_id = $1 for update"
    return Actor("lock", lambda: body(), query, (IDS["o1"],))


Move = tuple[str, int]  # ("begin" | "commit" | "abort" | "tick", which actor)


def schedules() -> list[tuple[Move, ...]]:
    """Every order of the beginnings and ends of two transactions and of the deadline, ended well or not."""
    found: list[tuple[Move, ...]] = []
    for one, other in itertools.product(("commit", "abort"), repeat=2):
        moves = [("begin", 0), ("begin", 1), (one, 0), (other, 1), ("tick", 0)]
        found += filter(_begins_before_it_ends, itertools.permutations(moves))
    return found


def _begins_before_it_ends(moves: Sequence[Move]) -> bool:
    return all(next(kind for kind, of in moves if of == n and kind != "tick") == "begin" for n in (0, 1))


class Played:
    """The model, moved as coarsely as PostgreSQL can be: a transaction goes on until it waits or wants to commit."""

    def __init__(self, actors: Sequence[Actor]) -> None:
        self.model = Model([(actor.name, actor.program) for actor in actors], opening("o1", "o2"))
        self.world = self.model.start()
        self.begun: list[int] = []

    def move(self, kind: str, number: int) -> None:
        if kind == "tick":
            self.world = self.world._replace(now=self.world.now + 1)
        elif kind == "begin":
            self.begun.append(number)
        else:
            self.world = (
                self.model.moved(self.world, number)
                if kind == "commit"
                else self.model.died(self.world, number)
            )
            self.begun.remove(number)
        for one in self.begun:
            while not self.waits(one) and self.answer(one) is None:
                self.world = self.model.moved(self.world, one)

    def waits(self, number: int) -> bool:
        return self.model.blocked_by(self.world, number) is not None

    def failed(self, number: int) -> bool:
        return self.world.processes[number].answer == FAILED

    def answer(self, number: int) -> str | None:
        if self.failed(number):
            return FAILED
        step = self.model.next_step(self.world, number)
        return step if isinstance(step, str) else None


def possible(actors: Sequence[Actor], moves: Sequence[Move]) -> bool:
    """A transaction that waits, or has failed, cannot be ended by its client."""
    played = Played(actors)
    for kind, number in moves:
        if kind in ("commit", "abort") and (played.waits(number) or played.failed(number)):
            return False
        played.move(kind, number)
    return True


class Real:
    """The same on two connections; `watch` is a third one."""

    def __init__(self, actors: Sequence[Actor], connections: Sequence[Any], watch: Any) -> None:
        self._actors = actors
        self._connections = connections
        self._watch = watch
        self._transactions = [connection.transaction() for connection in connections]
        self.answers: dict[int, asyncio.Task[Any]] = {}

    async def move(self, kind: str, number: int) -> None:
        if kind == "tick":
            await self._watch.execute("select setval('clock.ticks', 1)")
        elif kind == "begin":
            await self._transactions[number].start()
            actor = self._actors[number]
            asking = self._connections[number].fetchval(actor.query, *actor.arguments)
            self.answers[number] = asyncio.create_task(asking)
        else:
            transaction = self._transactions[number]
            await (transaction.commit() if kind == "commit" else transaction.rollback())

    async def waits(self, number: int) -> bool:
        pid = self._connections[number].get_server_pid()
        blocked = await self._watch.fetchval("select cardinality(pg_blocking_pids($1)) > 0", pid)
        return bool(blocked) and not self.answers[number].done()

    async def answer(self, number: int) -> str:
        async with asyncio.timeout(10):
            try:
                return str(await asyncio.shield(self.answers[number]))
            except asyncpg.UniqueViolationError:
                return FAILED


async def state(connection: Any) -> dict[str, Any]:
    orders = {
        NAMES[row["order_id"]]: (
            row["status"],
            row["reason"] or "",
            row["version"],
            NAMES.get(row["payment_id"], ""),
            None if row["paid_at"] is None else row["paid_at"] >= DEADLINE,
        )
        for row in await connection.fetch("select * from orders")
    }
    sale = await connection.fetchrow("select initial, available, reserved, sold from sales")
    money = await connection.fetch("select * from payments")
    outbox = await connection.fetch("select message_id, increment from outbox")
    return {
        "orders": orders,
        "sale": tuple(sale),
        "money": {(row["kind"], NAMES[row["payment_id"]], NAMES[row["order_id"]]) for row in money},
        "outbox": sorted(_told(row) for row in outbox),
    }


def _told(row: Any) -> str:
    """As the model writes it: `event o1:2`, `stock c-o1 1`."""
    text = str(row["message_id"])
    for name, identity in IDS.items():
        text = text.replace(str(identity), name)
    return f"event {text}" if row["increment"] is None else f"stock {text} {row['increment']}"


def predicted(world: World) -> dict[str, Any]:
    orders = {
        name: (
            order.status,
            order.reason,
            order.version,
            order.payment,
            None if order.paid_at is None else order.paid_at >= order.expires,
        )
        for name, order in world.rows_of("order").items()
    }
    money = {(kind, of, name) for kind in ("payment", "refund") for of, name in world.rows_of(kind).items()}
    return {
        "orders": orders,
        "sale": tuple(world.row("sale", "s")),
        "money": money,
        "outbox": sorted(world.outbox),
    }


@pytest.fixture
async def connections(fresh_database_url: str) -> AsyncIterator[list[Any]]:
    """Three, which all see the test's clock."""
    settings = {"search_path": "clock, pg_catalog, public"}
    async with contextlib.AsyncExitStack() as stack:
        found = []
        for _ in range(3):
            found.append(await asyncpg.connect(fresh_database_url, server_settings=settings))
            stack.push_async_callback(found[-1].close)
        await found[2].execute(CLOCK)
        await found[2].execute(PAY_WITHOUT_A_LOCK)
        yield found


async def reset(connection: Any) -> None:
    """As `opening`: two orders of one unit await payment, one unit is on offer; a second before the deadline."""
    await connection.execute("truncate orders, sales, payments, outbox")
    await connection.execute("select setval('clock.ticks', 0)")
    await connection.execute(
        "insert into sales (sale_id, tenant, product, price_cents, initial, available, reserved, opens_at, closes_at,"
        " per_customer_limit, pay_within_seconds, fingerprint) values ('s', $1, 'p', 1, 3, 1, 2, $2, $3, 1, 900, 'f')",
        TENANT, DEADLINE, DEADLINE + timedelta(days=1),
    )  # fmt: skip
    for name in ("o1", "o2"):
        await connection.execute(
            "insert into orders (order_id, tenant, customer_id, sale_id, status, fingerprint, accepted_at, expires_at)"
            " values ($1, $2, 'c', 's', 'pending_payment', 'f', $3, $3)",
            IDS[name], TENANT, DEADLINE,
        )  # fmt: skip


async def agree(actors: Sequence[Actor], moves: Sequence[Move], connections: Sequence[Any]) -> World:
    """Plays one schedule on both sides. Answers the model's end of it."""
    watch = connections[2]
    await reset(watch)
    model, real = Played(actors), Real(actors, connections, watch)
    for done, (kind, number) in enumerate(moves, start=1):
        model.move(kind, number)
        await real.move(kind, number)
        for one in model.begun:
            story = f"{[actor.name for actor in actors]}, {moves[:done]}, {actors[one].name}"
            if model.waits(one):
                await until(lambda one=one: real.waits(one), 10, pause=0.001)  # type: ignore[misc]
            else:
                assert await real.answer(one) == model.answer(one), story
    assert await state(watch) == predicted(model.world), (actors, moves)
    return model.world


PAIRS = {
    "the same payment twice": (payer("A"), payer("A")),
    "two payments": (payer("A"), payer("B")),
    "pay, cancel": (payer("A"), canceller()),
    "pay, expire": (payer("A"), reaper("o1", "o2")),
    "cancel, expire": (canceller(), reaper("o2", "o1")),
    "two batches": (reaper("o1", "o2"), reaper("o2", "o1")),
    "a payment that waits": (locker(), payer("A")),
    "a reaper that waits": (locker(), reaper("o1")),
    "a payment without a lock, twice": (hasty("A"), hasty("A")),
    "a payment without a lock that waits": (locker(), hasty("A")),
}


@pytest.mark.parametrize("pair", PAIRS)
async def test_postgresql_does_what_the_model_says(connections: list[Any], pair: str) -> None:
    """Of all schedules of the two a third, other ones for each pair."""
    actors = PAIRS[pair]
    played = [moves for moves in schedules() if possible(actors, moves)]
    for moves in random.Random(pair).sample(played, len(played) // 3):
        await agree(actors, moves, connections)


async def test_the_winner_that_was_refunded_was_a_real_mistake(connections: list[Any]) -> None:
    """Paid once by one customer, who asked twice at the deadline: the order is paid, and the money goes back."""
    moves: list[Move] = [("begin", 0), ("tick", 0), ("begin", 1), ("commit", 0), ("commit", 1)]
    world = await agree([hasty("A"), hasty("A")], moves, connections)
    assert world.row("order", "o1").status == "paid"
    assert world.rows_of("refund") == {"A": "o1"}
    world = await agree([payer("A"), payer("A")], moves, connections)
    assert world.row("order", "o1").status == "paid"
    assert world.rows_of("refund") == {}


async def test_who_waits_behind_a_mere_lock_is_not_judged_again(connections: list[Any]) -> None:
    """Judged and dated before the deadline, and committed after it; `pay_order` judges when it has the lock."""
    moves: list[Move] = [("begin", 0), ("begin", 1), ("tick", 0), ("abort", 0), ("commit", 1)]
    order = (await agree([locker(), hasty("A")], moves, connections)).row("order", "o1")
    assert (order.status, order.paid_at) == ("paid", 0)
    order = (await agree([locker(), payer("A")], moves, connections)).row("order", "o1")
    assert order.status == "pending_payment"
