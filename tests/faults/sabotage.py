"""Protections that a test takes out of a process, one at a time: the checker must find what then breaks.

Planted by `faults.launcher`, FAULTS_SABOTAGE=NAME. Where a protection has a moment, the point of that name
(`faults.points`) is in the wrong order of steps where it is in the right one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from faults.points import BURIED, COMMITTED, PUBLISHED, pass_by


def no_dedupe() -> None:
    """The relay publishes without message ids, so the broker knows nothing again."""
    from peakclip.jetstream import JetStream

    publish, publish_batch = JetStream.publish, JetStream.publish_batch

    async def unnamed(self: Any, *args: Any, message_id: Any = None, headers: Any = None, **more: Any) -> Any:
        return await publish(self, *args, headers=_unnamed(headers or {}), **more)

    async def all_unnamed(self: Any, messages: Sequence[Any], **more: Any) -> Any:
        return await publish_batch(
            self, [replace(one, headers=_unnamed(one.headers)) for one in messages], **more
        )

    JetStream.publish, JetStream.publish_batch = unnamed, all_unnamed  # type: ignore[method-assign]


def _unnamed(headers: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in headers.items() if key != "Nats-Msg-Id"}


def no_fence() -> None:
    """A group that comes too late stores its orders, though its units have been returned."""
    from peakclip.jetstream import JetStream

    publish = JetStream.publish

    async def anyway(self: Any, *args: Any, create_only: bool = False, **more: Any) -> Any:
        return await publish(self, *args, **more)

    JetStream.publish = anyway  # type: ignore[method-assign]


def ack_first() -> None:
    """A worker acknowledges orders before it has committed them."""
    from peakclip.pull import ack_all
    from peakclip_worker.consumer import Drain
    from peakclip_worker.pools.orders import DrainOrders

    commit, acknowledge = DrainOrders.commit, Drain._acknowledge
    acknowledged: set[int] = set()

    async def careless(self: Any, items: Sequence[Any], started_at: float) -> None:
        messages = [message for _, message in items if message.seq not in acknowledged]
        await ack_all(messages)
        acknowledged.update(message.seq for message in messages)
        await pass_by(COMMITTED)
        await commit(self, items, started_at)

    async def the_rest(messages: Sequence[Any]) -> None:
        await acknowledge([message for message in messages if message.seq not in acknowledged])

    DrainOrders.commit = careless  # type: ignore[method-assign]
    Drain._acknowledge = staticmethod(the_rest)  # type: ignore[method-assign]


def no_outbox() -> None:
    """What a transaction owes is published when nothing tells of it any more: as if straight after its commit."""
    from peakclip.store import query
    from peakclip_worker.outbox import Outbox

    async def publish_some(self: Any) -> int:
        async with self._database.acquire() as connection:
            async with connection.transaction():
                rows = await connection.fetch(query("claim_outbox"), 256)
                await connection.execute(query("delete_outbox"), [row["id"] for row in rows])
            if rows:
                await pass_by(PUBLISHED)
                await self._publish(rows)
        return len(rows)

    Outbox._publish_some = publish_some  # type: ignore[method-assign]


def no_return() -> None:
    """Units that an API process took and never sold are not returned."""
    from peakclip_worker.reconciler import Reconciler

    async def nothing(*_: Any) -> None:
        return

    Reconciler._correct = nothing  # type: ignore[method-assign]


def own_clock() -> None:
    """The relay judges by its own clock whether a reservation is old enough."""
    import time

    from peakclip_worker.reconciler import Reconciler

    async def now(_: Any) -> float:
        return time.time()

    Reconciler._server_time = now  # type: ignore[method-assign]


def no_letter() -> None:
    """A message that nobody can work on is ended before its dead letter is stored."""
    from peakclip_worker.batch import BatchPool
    from peakclip_worker.consumer import Drain

    bury, acknowledge = BatchPool._bury, Drain._acknowledge
    ended: set[int] = set()

    async def careless(self: Any, message: Any, cause: str, attempts: int) -> None:
        await message.ack()
        ended.add(message.seq)
        await pass_by(BURIED)
        await bury(self, message, cause, attempts)

    async def the_rest(messages: Sequence[Any]) -> None:
        await acknowledge([message for message in messages if message.seq not in ended])

    BatchPool._bury = careless  # type: ignore[method-assign]
    Drain._acknowledge = staticmethod(the_rest)  # type: ignore[method-assign]


def deaf_pull() -> None:
    """A pull is waited for until it is answered, whatever becomes of the connection meanwhile."""
    from peakclip.pull import PullConsumer

    async def patient(self: Any, most: int, wait_seconds: float) -> None:
        self._open = next(self._numbers)
        self._wake.clear()
        request = b'{"batch": %d, "expires": %d}' % (most, 3_600_000_000_000)
        await self._js.publish_core(self._subject, request, reply=f"{self._inbox}.{self._open}")
        while self._open is not None and not self._arrived:
            await self._wake.wait()
            self._wake.clear()

    PullConsumer._pull = patient  # type: ignore[method-assign]


async def no_judge(database: Any) -> None:
    """In the database: an order is sold whatever is left, and nothing else there objects."""
    text: str = await database.fetchval("select pg_get_functiondef('drain_seckill'::regproc)")
    for judged, careless, times in (
        ("j.within and j.quantity <= j.left_over", "j.within", 2),
        ("when j.quantity > j.left_over then 'sold-out' end", "end", 1),
    ):
        assert text.count(judged) == times
        text = text.replace(judged, careless)
    await database.execute(text)
    await database.execute("alter table sales drop constraint sales_available_check")


# Name: the command whose process it is planted in, and how.
SABOTAGES: Final[Mapping[str, tuple[str, Callable[[], None]]]] = {
    "no-fence": ("api", no_fence),
    "no-dedupe": ("relay", no_dedupe),
    "no-outbox": ("relay", no_outbox),
    "no-return": ("relay", no_return),
    "own-clock": ("relay", own_clock),
    "ack-first": ("worker", ack_first),
    "no-letter": ("worker", no_letter),
    "deaf-pull": ("relay", deaf_pull),
}
