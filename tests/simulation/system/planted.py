"""Faults of the product, planted on purpose: a simulation that does not find them finds nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple
from unittest import mock

from faults.history.finding import Damage
from simulation.database.statements import NAMED
from simulation.database.store import Row, Steps, Transaction

from peakclip import ingest, topology
from peakclip.ingest import Intake, SoldOutError
from peakclip.jetstream import InMessage, JetStream, OutMessage
from peakclip.store import query
from peakclip_api.accept import Acceptor
from peakclip_api.refusals import Refusals
from peakclip_worker import batch, relay
from peakclip_worker.batch import BatchPool
from peakclip_worker.consumer import Drain
from peakclip_worker.outbox import Outbox
from peakclip_worker.reconciler import Reconciler


class Bug(NamedTuple):
    plant: Callable[[contextlib.ExitStack], None]
    damage: Damage  # what it does, and so what it has to be found as


BUGS: Final[dict[str, Bug]] = {}
_Make = Callable[[Any], Any]


@contextlib.contextmanager
def planted(names: frozenset[str]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for name in sorted(names):
            BUGS[name].plant(stack)
        yield


def _in_place_of(owner: Any, name: str, damage: Damage) -> Callable[[_Make], _Make]:
    """The function makes what comes in the place of what it is given."""

    def taken(make: _Make) -> _Make:
        def plant(stack: contextlib.ExitStack) -> None:
            stack.enter_context(mock.patch.object(owner, name, make(getattr(owner, name))))

        BUGS[make.__name__.replace("_", "-")] = Bug(plant, damage)
        return make

    return taken


def _statement(name: str, damage: Damage) -> Callable[[_Make], _Make]:
    def taken(make: _Make) -> _Make:
        def plant(stack: contextlib.ExitStack) -> None:
            stack.enter_context(mock.patch.dict(NAMED, {name: make(NAMED[name])}))

        BUGS[make.__name__.replace("_", "-")] = Bug(plant, damage)
        return make

    return taken


@_in_place_of(BatchPool, "process", Damage.LOST)
def ack_before_commit(original: Any) -> Any:
    async def process(self: Any, batch: Sequence[InMessage], started_at: float) -> Any:
        await Drain._acknowledge(batch)
        return await original(self, batch, started_at)

    return process


@_in_place_of(BatchPool, "_bury", Damage.LOST)
def acknowledged_before_its_dead_letter(original: Any) -> Any:
    async def bury(self: Any, message: InMessage, cause: str, attempts: int) -> None:
        await Drain._acknowledge([message])
        await original(self, message, cause, attempts)

    return bury


@_in_place_of(batch, "schedule_name", Damage.LOST)
def one_schedule_for_all_attempts(_original: Any) -> Any:
    """What waits for its third attempt is replaced by its second, which comes again and is known already."""

    def schedule_name(headers: Mapping[str, str]) -> str:
        return headers[topology.MESSAGE_ID_HEADER]

    return schedule_name


@_in_place_of(JetStream, "publish", Damage.OVERSOLD)
def no_message_ids(original: Any) -> Any:
    """What is owed and published again is not known again: first of all units that are put on offer twice."""

    async def publish(self: Any, *args: Any, message_id: str | None = None, **more: Any) -> Any:
        return await original(self, *args, **more)

    return publish


@_in_place_of(relay, "_out", Damage.DUPLICATED)
def no_message_ids_in_the_relay(original: Any) -> Any:
    """An order of a frame that is taken apart again stands in the line again."""

    def out(*args: Any) -> OutMessage:
        message: OutMessage = original(*args)
        headers = {name: value for name, value in message.headers.items() if name != "Nats-Msg-Id"}
        return OutMessage(message.subject, message.payload, headers)

    return out


@_in_place_of(Outbox, "_publish_some", Damage.LOST)
def outbox_emptied_first(original: Any) -> Any:
    """What is owed is struck out before it is published."""

    async def publish_some(self: Any) -> int:
        async with self._database.acquire() as connection, connection.transaction():
            rows = await connection.fetch(query("claim_outbox"), 256)
            if rows:
                await connection.execute(query("delete_outbox"), [row["id"] for row in rows])
        if rows:
            await self._publish(rows)
        return len(rows)

    return publish_some


@_in_place_of(Outbox, "_publish", Damage.UNDERSOLD)
def outbox_left_out(original: Any) -> Any:
    """Stock that comes back is never put on offer again."""

    async def publish(self: Any, rows: Sequence[Any]) -> None:
        await original(self, [row for row in rows if not row["message_id"].startswith(("c-", "x-"))])

    return publish


@_in_place_of(Reconciler, "_correct", Damage.UNDERSOLD)
def units_not_returned(original: Any) -> Any:
    """What a process that died had taken stays taken."""

    async def correct(self: Any, sale_id: str, units: int, message_id: str) -> None:
        return None

    return correct


@_in_place_of(Reconciler, "_units_in_frame", Damage.OVERSOLD)
def no_fence(original: Any) -> Any:
    """A frame that is not there yet is taken for one that never comes."""

    async def units_in_frame(self: Any, frame_id: str, sale_id: str) -> int:
        if await self._js.last_message(topology.INTAKE, topology.frame_subject(frame_id)) is None:
            return 0
        return int(await original(self, frame_id, sale_id))

    return units_in_frame


@_in_place_of(Intake, "_store", Damage.OVERSOLD)
def unknown_is_no(original: Any) -> Any:
    """Units go back at once when nobody knows whether their frame was stored."""

    async def store(self: Any, frame: Any, admitted: Any) -> Any:
        try:
            return await original(self, frame, admitted)
        except Exception:
            self._give_back(frame, admitted)
            raise

    return store


@_in_place_of(ingest, "grant", Damage.OVERSOLD)
def admitted_beyond_the_stock(_original: Any) -> Any:
    """Whoever comes is accepted, and the database rejects those for whom there is nothing."""

    def grant(quantities: Sequence[int], _units: int) -> list[bool]:
        return [True for _ in quantities]

    return grant


@_in_place_of(Acceptor, "_settle_repeat", Damage.DUPLICATED)
def no_wait_for_the_same(original: Any) -> Any:
    """The same order, asked for twice at the same time, is stored twice."""

    async def settle_repeat(self: Any, order_id: str, print_: str) -> None:
        return None

    return settle_repeat


def _sold_out_without_a_look(stack: contextlib.ExitStack) -> None:
    """Who has bought at another process, or at one that has died, is told that it is sold out."""

    def confirm(_self: Any, ended: Callable[[Any], None]) -> None:
        asyncio.get_running_loop().call_soon(ended, SoldOutError())

    async def accepted_elsewhere(_self: Any, _order_id: str, refusal: Exception) -> Any:
        raise refusal

    stack.enter_context(mock.patch.object(Refusals, "confirm", confirm))
    stack.enter_context(mock.patch.object(Acceptor, "_accepted_elsewhere", accepted_elsewhere))


BUGS["sold-out-without-a-look"] = Bug(_sold_out_without_a_look, Damage.MISORDERED)


@_statement("pay_order", Damage.TWO_WINNERS)
def paid_without_a_lock(original: Any) -> Any:
    """The order is judged as it was before anybody was waited for."""

    def pay_order(tx: Any, *args: Any) -> Steps[Any]:
        def take(table: str, key: Any, seen: Row, fits: Any) -> Steps[Row | None]:
            yield from Transaction.take(tx, table, key, seen, fits)
            return seen

        tx.take = take
        return original(tx, *args)

    return pay_order


@_statement("drain_seckill", Damage.LIMIT)
def limit_by_the_line_alone(original: Any) -> Any:
    """The database does not look at what a customer has bought."""

    def drain_seckill(tx: Any, *args: Any) -> Steps[Any]:
        tx.rows = lambda _table: iter(())
        return original(tx, *args)

    return drain_seckill


@_statement("transition_order", Damage.UNDERSOLD)
def cancelled_without_stock(original: Any) -> Any:
    """A cancelled order's units are on offer in the row, and nowhere else."""

    def transition_order(tx: Any, *args: Any) -> Steps[Any]:
        def add(table: str, row: Row, sequence: str) -> int:
            return 0 if row["increment"] is not None else Transaction.add(tx, table, row, sequence)

        tx.add = add
        return original(tx, *args)

    return transition_order
