"""The line: every accepted order that this process has seen, in order of acceptance, by any API process.

INTAKE is the shared log; each process follows it. That is where repeats of a key are recognised, customers' units
are counted before the database has them, and a queued order finds its place, without a look-up on the accept path.
The database stays the judge: what is forgotten here costs a later, still correct, answer.

`Line` is pure bookkeeping; `Follower` feeds it from JetStream.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec
import structlog

from peakclip import topology
from peakclip.errors import PeakclipError, UnavailableError
from peakclip.jetstream import JetStream, StoredMessage
from peakclip.messages import Order, decode_frame

log = structlog.get_logger()

POLL_SECONDS: Final = 0.5
DEMAND_SECONDS: Final = 5.0  # without a question for this long, the queue is asked less often
IDLE_POLL_SECONDS: Final = 5.0
LONGEST_LAG_SECONDS: Final = (
    4.0  # the client's own way back to the log, should all others fail, takes up to 4 s
)


class Entry(msgspec.Struct, gc=False):
    order: Order
    ordinal: int  # 1 for the first order this process has seen
    released: bool = False  # rejected or cancelled: no longer counts against the customer's limit


class Line:
    """Orders by id and by buyer, with their ordinals. Sizes are orders."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._entries: dict[str, Entry] = {}
        self._bought: dict[tuple[str, str], int] = {}  # (sale, customer) -> units
        self._frames: dict[int, int] = {}  # sequence -> orders, of frames that may not be relayed yet
        self._early: dict[int, Sequence[Order]] = {}  # own frames, known before the log showed them
        self._newest_logged = 0
        self._early_releases: dict[str, None] = {}  # in order of arrival
        self.total = 0
        self.drained = 0  # orders with an ordinal up to here are certainly not queued any more

    def knows(self, seq: int) -> bool:
        """Whether the log shows a frame that was added early, as our own. Answers yes once."""
        if self._early.pop(seq, None) is not None:
            return True
        self._newest_logged = seq
        return False

    def add_own_frame(self, seq: int, orders: Sequence[Order]) -> None:
        """Takes in a frame of ours as soon as it is stored, unless the log was faster."""
        if seq > self._newest_logged:
            self.add_frame(seq, orders)
            self._early[seq] = orders

    def add_frame(self, seq: int, orders: Iterable[Order]) -> None:
        """Takes in a stored frame."""
        before = ordinal = self.total
        entries, bought, early_releases = self._entries, self._bought, self._early_releases
        for order in orders:
            ordinal += 1
            order_id = order.order_id
            if order_id in entries:  # admitted twice: the database keeps the first, returns the other's units
                if self._early:
                    self._put_right(seq, order)
                continue
            entries[order_id] = entry = Entry(order, ordinal)
            if early_releases and order_id in early_releases:
                del early_releases[order_id]
                entry.released = True
                continue
            buyer = (order.sale_id, order.customer_id)
            bought[buyer] = bought.get(buyer, 0) + order.quantity
        self.total = ordinal
        self._frames[seq] = ordinal - before

    def _put_right(self, seq: int, order: Order) -> None:
        """The first in the log has the key. What we know of it may be later: from a frame of ours, known early."""
        entry = self._entries[order.order_id]
        later = (known for early, frame in self._early.items() if early > seq for known in frame)
        if not any(known is entry.order for known in later):
            return
        if not entry.released:
            self._forget_units(entry.order)
            buyer = (order.sale_id, order.customer_id)
            self._bought[buyer] = self._bought.get(buyer, 0) + order.quantity
        entry.order = order

    def find(self, order_id: str) -> Entry | None:
        return self._entries.get(order_id)

    def bought(self, sale_id: str, customer_id: str) -> int:
        return self._bought.get((sale_id, customer_id), 0)

    def release(self, order_id: str) -> None:
        """The order was rejected or cancelled, so its units no longer count against the customer."""
        entry = self._entries.get(order_id)
        if entry is None:
            self._early_releases[order_id] = None
            if (
                len(self._early_releases) > self._keep
            ):  # the oldest are of orders that the log no longer holds
                del self._early_releases[next(iter(self._early_releases))]
            return
        if not entry.released:
            entry.released = True
            self._forget_units(entry.order)

    def _forget_units(self, order: Order) -> None:
        buyer = (order.sale_id, order.customer_id)
        left = self._bought.get(buyer, 0) - order.quantity
        if left > 0:
            self._bought[buyer] = left
        else:
            self._bought.pop(buyer, None)

    def measured(self, *, relayed_seq: int, queued: int) -> None:
        """Notes how far the line has moved: frames up to `relayed_seq` are apart, `queued` orders wait behind it."""
        self._frames = {seq: count for seq, count in self._frames.items() if seq > relayed_seq}
        self.drained = max(self.drained, self.total - sum(self._frames.values()) - queued)

    @property
    def waiting(self) -> int:
        """Orders that have not certainly left the line."""
        return self.total - self.drained

    def position(self, entry: Entry) -> int:
        """Place in line: 1 is next."""
        return max(1, entry.ordinal - self.drained)

    def trim(self) -> None:
        """Forgets the oldest orders beyond `keep`, never one that is still queued."""
        surplus = len(self._entries) - self._keep
        if surplus <= 0:
            return
        for order_id in list(itertools.islice(self._entries, surplus)):
            entry = self._entries[order_id]
            if entry.ordinal > self.drained:
                return
            del self._entries[order_id]
            if not entry.released:
                self._forget_units(entry.order)


class Follower:
    """Keeps a `Line` up to date from INTAKE and RELEASES; asks how long the queue is while anybody wants to know."""

    def __init__(self, js: JetStream, line: Line, *, steady: Callable[[], float] = time.monotonic) -> None:
        """`steady`: seconds of a clock that never jumps."""
        self._js = js
        self._steady = steady
        self._line = line
        self._asked_at = 0.0
        self.caught_up = asyncio.Event()
        self._target = 0
        self._read_seq = 0  # of INTAKE: the line holds everything up to here
        self._heard = asyncio.Event()
        self._look: asyncio.Task[None] | None = None  # at the log's end, and the wait for it
        self._next_look: asyncio.Task[None] | None = None  # not yet begun
        self._follows_releases = False  # a start that failed halfway can be repeated

    async def start(self) -> None:
        """Reads the log from as far back as it is kept; `caught_up` is set once everything older is known."""
        self._target = (await self._js.stream_state(topology.INTAKE)).last_seq
        first = max(1, (await self._js.stream_state(topology.INTAKE)).first_seq)
        self._read_seq = max(self._read_seq, first - 1)
        if self._target < first:
            self.caught_up.set()
        if not self._follows_releases:
            await self._js.follow(topology.RELEASES, 1, self._on_release)
            self._follows_releases = True
        await self._js.follow(topology.INTAKE, first, self._on_frame, subject="intake.>")

    async def _on_frame(self, message: StoredMessage) -> None:
        try:
            if not self._line.knows(message.seq):
                self._line.add_frame(message.seq, decode_frame(message.payload))
        except msgspec.MsgspecError as exc:
            log.error("frame_unreadable", seq=message.seq, error=str(exc))
        self._read_seq = max(self._read_seq, message.seq)
        self._heard.set()
        if message.seq >= self._target:
            self.caught_up.set()

    async def _on_release(self, message: StoredMessage) -> None:
        for order_id in message.payload.decode().split("\n"):
            self._line.release(order_id)

    async def up_to_date(self) -> None:
        """Returns when the line holds everything that any process had accepted at the moment of the call.

        Asked before a refusal: another process may have accepted the same order a moment ago, and after a restart
        of NATS this one hears of it only seconds later. One question to the server serves all who wait.
        Raises what a request raises, and UnavailableError while the log cannot be followed.
        """
        if self._next_look is None:
            self._next_look = asyncio.create_task(self._look_at_the_end(self._look))
            self._next_look.add_done_callback(_seen)
        await asyncio.shield(self._next_look)

    async def _look_at_the_end(self, before: asyncio.Task[None] | None) -> None:
        """A look that has begun may have been too early for who asks now, so they wait for the next one."""
        if before is not None:
            await asyncio.wait([before])
        self._look, self._next_look = self._next_look, None
        end = (await self._js.stream_state(topology.INTAKE)).last_seq
        try:
            async with asyncio.timeout(LONGEST_LAG_SECONDS):
                while self._read_seq < end:
                    self._heard.clear()
                    await self._heard.wait()
        except TimeoutError:
            raise UnavailableError("The log of accepted orders cannot be followed at the moment.") from None

    def asked(self) -> None:
        """Somebody wants to know a place in line."""
        self._asked_at = self._steady()

    async def run(self) -> None:
        while True:
            try:
                # The relay first: an order that moves between the two answers is then counted twice, not never.
                relay = await self._js.consumer_state(topology.INTAKE, "relay")
                orders = await self._js.consumer_state(topology.SECKILL, topology.ORDERS_POOL)
                self._line.measured(
                    relayed_seq=relay.ack_floor_seq, queued=orders.pending + orders.ack_pending
                )
                self._line.trim()
            except PeakclipError as exc:
                log.debug("queue_length_unknown", error=repr(exc))
            for _ in range(int(IDLE_POLL_SECONDS / POLL_SECONDS)):
                await asyncio.sleep(POLL_SECONDS)
                if self._steady() - self._asked_at < DEMAND_SECONDS:
                    break


def _seen(task: asyncio.Task[None]) -> None:
    """Nobody may be waiting any more."""
    if not task.cancelled():
        task.exception()
