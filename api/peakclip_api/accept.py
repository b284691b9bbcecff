"""What decides about an order before it is stored: repeat; for a flash sale window, limit, stock; then group commit.

The order of the checks is the contract: a repeat of an accepted key gets the same answer even when the sale has
closed or sold out meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Final

import msgspec

from peakclip import messages, telemetry, tracing
from peakclip.errors import PeakclipError
from peakclip.ingest import BusyError, Intake, IntakeUnavailableError, Outcome, SoldOutError
from peakclip.messages import Order
from peakclip.outcomes import InDoubtError
from peakclip_api.doubts import Doubts
from peakclip_api.in_flight import InFlight
from peakclip_api.line import Entry, Follower, Line
from peakclip_api.problems import COME_AGAIN, Problem, key_reused, not_stored, retry_later
from peakclip_api.refusals import Refusals
from peakclip_api.room import Room
from peakclip_api.sales import Sale, check_window
from peakclip_api.wait import Wait

_FINAL: Final = (409, 410, 422)  # refusals that a client takes for the last word
Ended = Callable[[Outcome], None]


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The answer 202, as it is written."""

    order_id: str
    position: int
    eta_seconds: float | None
    status: str = "queued"

    @property
    def location(self) -> str:
        return f"/v1/orders/{self.order_id}"


class Begun(msgspec.Struct, frozen=True, gc=False):
    """An order on the short way."""

    order_id: str
    fingerprint: str
    started: float  # perf_counter


def fingerprint(customer_id: str, sale_id: str, quantity: int) -> str:
    """Tells a retry from a reused key: who asks for what."""
    return hashlib.blake2b(f"{customer_id}\0{sale_id}\0{quantity}".encode(), digest_size=8).hexdigest()


class Acceptor:
    """Accepts orders into the line."""

    def __init__(
        self,
        intake: Intake,
        line: Line,
        follower: Follower,
        wait: Wait,
        room: Room | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock`: epoch seconds. `room`: None for as much as anybody wants."""
        self._clock = clock
        self._intake = intake
        self._line = line
        self._follower = follower
        self._wait = wait
        self._accept_seconds = telemetry.Gathered(telemetry.ACCEPT)
        self._in_flight = InFlight(Room(sys.maxsize) if room is None else room)
        self._refusals = Refusals(follower)
        self._doubts = Doubts(follower, self._in_flight.landed)

    async def write_metrics(self) -> None:
        """Once a second, for the life of the process."""
        while True:
            await asyncio.sleep(1.0)
            self._accept_seconds.write()

    def stored(self, seq: int, orders: list[Order]) -> None:
        """A frame of ours is on disk: its orders are in the line, and no longer in flight."""
        self._line.add_own_frame(seq, orders)
        self._follower.asked()
        for order in orders:
            self._in_flight.landed(order)

    async def accept(
        self, sale: Sale, customer_id: str, idempotency_key: str, quantity: int, owner: Hashable = None
    ) -> Accepted:
        """Returns when the order is on disk. Raises Problem for every refusal. `owner`: see `Room`."""
        order_id = messages.order_id(sale.tenant, idempotency_key)
        print_ = fingerprint(customer_id, sale.sale_id, quantity)
        return await self._accept(
            order_id,
            print_,
            lambda ended: self._put_in_line(sale, order_id, customer_id, quantity, print_, owner, ended),
        )

    async def accept_booking(
        self, order: Order, check: Callable[[Order], Awaitable[None]], owner: Hashable = None
    ) -> Accepted:
        """The same for an ordinary order, which has neither window nor limit nor stock.

        `check` raises Problem 422 for what cannot be ordered. It is asked about new orders only.
        """
        order_id, print_ = order.order_id, order.fingerprint
        if (known := await self.repeat(order_id, print_)) is not None:
            return known
        try:
            await check(order)
        except Problem as refusal:
            await self._accepted_elsewhere(order_id, refusal)
        return await self._accept(order_id, print_, lambda ended: self._hand_over(order, owner, ended))

    async def repeat(self, order_id: str, print_: str) -> Accepted | None:
        """The answer to an order that is in the line, or on its way there. Raises Problem 422 if it is another one."""
        started = time.perf_counter()
        if self._in_flight.find(order_id) is not None:
            await self._settle_repeat(order_id, print_)
        if (entry := self._line.find(order_id)) is None:
            return None
        return self._checked(order_id, print_, entry, started)

    async def _accept(self, order_id: str, print_: str, put: Callable[[Ended], None]) -> Accepted:
        started = time.perf_counter()
        if (known := await self.repeat(order_id, print_)) is not None:
            return known
        try:
            await self._store(put)
            entry = self._line.find(order_id)
        except Problem as refusal:
            entry = await self._accepted_elsewhere(order_id, refusal)
        return self._checked(order_id, print_, entry, started)

    def _checked(self, order_id: str, print_: str, entry: Entry | None, started: float) -> Accepted:
        if entry is not None and entry.order.fingerprint != print_:
            raise key_reused()
        self._follower.asked()
        return self._answer(order_id, entry, started)

    def begin(
        self,
        sale: Sale,
        customer_id: str,
        idempotency_key: str,
        quantity: int,
        ended: Ended,
        owner: Hashable = None,
    ) -> Begun | Problem | None:
        """The short way: an order that is new and fits goes into the next group without a task of its own.

        `ended` is called later; with SoldOutError only when no other process has accepted the order either. A Problem
        for an order that may come again later: many of those must cost little. None for every other order: `accept`
        knows what to say to it.
        """
        started = time.perf_counter()
        order_id = messages.order_id(sale.tenant, idempotency_key)
        if self._in_flight.find(order_id) is not None or self._line.find(order_id) is not None:
            return None
        print_ = fingerprint(customer_id, sale.sale_id, quantity)

        def told(outcome: Outcome) -> None:
            if isinstance(outcome, SoldOutError):
                self._refusals.confirm(ended)
            else:
                ended(outcome)

        try:
            self._put_in_line(sale, order_id, customer_id, quantity, print_, owner, told)
        except SoldOutError:
            self._refusals.confirm(ended)
        except Problem as refusal:
            return refusal if refusal.status in COME_AGAIN else None
        return Begun(order_id, print_, started)

    def is_accepted(self, begun: Begun) -> bool:
        """Whether the line holds the order, by whatever process."""
        return self._line.find(begun.order_id) is not None

    def finish(self, begun: Begun) -> Accepted | None:
        """The answer to an order that is on disk. None if the key was another order's, by another process, before."""
        entry = self._line.find(begun.order_id)
        if entry is not None and entry.order.fingerprint != begun.fingerprint:
            return None
        return self._answer(begun.order_id, entry, begun.started)

    def _answer(self, order_id: str, entry: Entry | None, started: float) -> Accepted:
        self._accept_seconds.add(time.perf_counter() - started)
        position = self._line.position(entry) if entry is not None else 1
        return Accepted(order_id, position, self._wait.seconds(position))

    async def _accepted_elsewhere(self, order_id: str, refusal: Problem) -> Entry:
        """The order, if another process has accepted it: who has bought is never told that it is sold out.

        Raises the refusal if nobody has, and 503 while that is not known.
        """
        if refusal.status not in _FINAL:
            raise refusal
        try:
            await self._follower.up_to_date()
        except PeakclipError:
            raise retry_later(
                "queue-unavailable", "Whether this order was accepted is not known yet."
            ) from None
        entry = self._line.find(order_id)
        if entry is None:
            raise refusal
        return entry

    async def _settle_repeat(self, order_id: str, print_: str) -> None:
        """Waits for the same order that is being stored right now; the caller then finds it in the line.

        Again and again: when one try fails, the first of those that wait makes the next, and the others wait for
        it. Two at once would take units twice, and one frame with both would never give the second back.
        """
        while (flying := self._in_flight.find(order_id)) is not None:
            if flying.order.fingerprint != print_:
                raise key_reused()
            landed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            flying.waiters.append(landed)
            await landed

    async def _store(self, put: Callable[[Ended], None]) -> None:
        stored: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def ended(outcome: Outcome) -> None:
            if not stored.done():  # else the client has left; the order stays accepted
                stored.set_result(outcome)

        try:
            put(ended)
            outcome = await stored
        except SoldOutError as exc:
            outcome = exc
        if isinstance(outcome, SoldOutError):
            raise Problem(409, "sold-out", str(outcome))
        if isinstance(outcome, IntakeUnavailableError):
            raise not_stored(outcome)

    def _put_in_line(
        self,
        sale: Sale,
        order_id: str,
        customer_id: str,
        quantity: int,
        print_: str,
        owner: Hashable,
        ended: Ended,
    ) -> None:
        """Hands a new order over to group commit. Raises Problem outside window, limit and longest wait, and
        SoldOutError."""
        now = self._clock()
        check_window(sale, now)
        buyer = (sale.sale_id, customer_id)
        over = self._line.bought(*buyer) + self._in_flight.units(buyer) + quantity - sale.per_customer_limit
        if over > 0 and over > self._in_flight.counted_twice(buyer, self._line):
            raise Problem(409, "limit-reached", f"At most {sale.per_customer_limit} for each customer.")
        context = tracing.current_traceparent()
        self._hand_over(
            Order(order_id, sale.tenant, customer_id, sale.sale_id, quantity, print_, now, context),
            owner,
            ended,
        )

    def _hand_over(self, order: Order, owner: Hashable, ended: Ended) -> None:
        self._wait.check(len(self._in_flight))
        if not self._in_flight.has_room(owner):
            raise not_stored(BusyError())

        def landed(outcome: Outcome) -> None:
            if isinstance(outcome, InDoubtError):
                self._doubts.add(order)
            else:
                self._in_flight.landed(order)
            ended(outcome)

        try:
            self._intake.submit(order, landed)
        except SoldOutError:
            self._in_flight.left(owner)
            raise
        self._in_flight.took_off(order, owner)
