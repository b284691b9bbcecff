"""Faults of the product, planted on purpose: a simulation that does not find them finds nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final
from unittest import mock

from simulation.database.statements import NAMED
from simulation.database.store import Row, Steps, Transaction

from peakclip import topology
from peakclip.ingest import Intake
from peakclip.jetstream import InMessage, JetStream
from peakclip.store import query
from peakclip_api.accept import Acceptor
from peakclip_worker import batch
from peakclip_worker.batch import BatchPool
from peakclip_worker.consumer import Drain
from peakclip_worker.outbox import Outbox
from peakclip_worker.reconciler import Reconciler

Planter = Callable[[contextlib.ExitStack], None]
BUGS: Final[dict[str, Planter]] = {}


@contextlib.contextmanager
def planted(names: frozenset[str]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for name in sorted(names):
            BUGS[name](stack)
        yield


def _in_place_of(owner: Any, name: str) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """The function makes what comes in the place of what it is given."""

    def taken(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def plant(stack: contextlib.ExitStack) -> None:
            stack.enter_context(mock.patch.object(owner, name, make(getattr(owner, name))))

        BUGS[make.__name__.replace("_", "-")] = plant
        return make

    return taken


def _statement(name: str) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    def taken(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def plant(stack: contextlib.ExitStack) -> None:
            stack.enter_context(mock.patch.dict(NAMED, {name: make(NAMED[name])}))

        BUGS[make.__name__.replace("_", "-")] = plant
        return make

    return taken


@_in_place_of(BatchPool, "process")
def ack_before_commit(original: Any) -> Any:
    async def process(self: Any, batch: Sequence[InMessage], started_at: float) -> Any:
        await Drain._acknowledge(batch)
        return await original(self, batch, started_at)

    return process


@_in_place_of(BatchPool, "_bury")
def acknowledged_before_its_dead_letter(original: Any) -> Any:
    async def bury(self: Any, message: InMessage, cause: str, attempts: int) -> None:
        await Drain._acknowledge([message])
        await original(self, message, cause, attempts)

    return bury


@_in_place_of(batch, "schedule_name")
def one_schedule_for_all_attempts(_original: Any) -> Any:
    """What waits for its third attempt is replaced by its second, which comes again and is known already."""

    def schedule_name(headers: Mapping[str, str]) -> str:
        return headers[topology.MESSAGE_ID_HEADER]

    return schedule_name


@_in_place_of(JetStream, "publish")
def no_message_ids(original: Any) -> Any:
    """Nothing that is published again is known again."""

    async def publish(self: Any, *args: Any, message_id: str | None = None, **more: Any) -> Any:
        return await original(self, *args, **more)

    return publish


@_in_place_of(Outbox, "_publish_some")
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


@_in_place_of(Outbox, "_publish")
def outbox_left_out(original: Any) -> Any:
    """Stock that comes back is never put on offer again."""

    async def publish(self: Any, rows: Sequence[Any]) -> None:
        await original(self, [row for row in rows if not row["message_id"].startswith(("c-", "x-"))])

    return publish


@_in_place_of(Reconciler, "_correct")
def units_not_returned(original: Any) -> Any:
    """What a process that died had taken stays taken."""

    async def correct(self: Any, sale_id: str, units: int, message_id: str) -> None:
        return None

    return correct


@_in_place_of(Reconciler, "_units_in_frame")
def no_fence(original: Any) -> Any:
    """A frame that is not there yet is taken for one that never comes."""

    async def units_in_frame(self: Any, frame_id: str, sale_id: str) -> int:
        if await self._js.last_message(topology.INTAKE, topology.frame_subject(frame_id)) is None:
            return 0
        return int(await original(self, frame_id, sale_id))

    return units_in_frame


@_in_place_of(Intake, "_store")
def unknown_is_no(original: Any) -> Any:
    """Units go back at once when nobody knows whether their frame was stored."""

    async def store(self: Any, frame: Any, admitted: Any) -> Any:
        try:
            return await original(self, frame, admitted)
        except Exception:
            self._give_back(frame, admitted)
            raise

    return store


@_in_place_of(Acceptor, "_settle_repeat")
def no_wait_for_the_same(original: Any) -> Any:
    """The same order, asked for twice at the same time, is stored twice."""

    async def settle_repeat(self: Any, order_id: str, print_: str) -> None:
        return None

    return settle_repeat


@_statement("pay_order")
def paid_without_a_lock(original: Any) -> Any:
    """The order is judged as it was before anybody was waited for."""

    def pay_order(tx: Any, *args: Any) -> Steps[Any]:
        def take(table: str, key: Any, seen: Row, fits: Any) -> Steps[Row | None]:
            yield from Transaction.take(tx, table, key, seen, fits)
            return seen

        tx.take = take
        return original(tx, *args)

    return pay_order


@_statement("drain_seckill")
def limit_by_the_line_alone(original: Any) -> Any:
    """The database does not look at what a customer has bought."""

    def drain_seckill(tx: Any, *args: Any) -> Steps[Any]:
        tx.rows = lambda _table: iter(())
        return original(tx, *args)

    return drain_seckill


@_statement("transition_order")
def cancelled_without_stock(original: Any) -> Any:
    """A cancelled order's units are on offer in the row, and nowhere else."""

    def transition_order(tx: Any, *args: Any) -> Steps[Any]:
        def add(table: str, row: Row, sequence: str) -> int:
            return 0 if row["increment"] is not None else Transaction.add(tx, table, row, sequence)

        tx.add = add
        return original(tx, *args)

    return transition_order
