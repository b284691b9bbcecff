"""The orders that this process is storing right now, and who waits for the end of that because they sent the same."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

from peakclip.messages import Order
from peakclip_api.line import Line
from peakclip_api.room import Room


class Flying:
    """One of them."""

    __slots__ = ("order", "owner", "waiters")

    def __init__(self, order: Order, owner: Hashable) -> None:
        self.order = order
        self.owner = owner
        self.waiters: list[asyncio.Future[None]] = []


class InFlight:
    """By order id. `room` says how many there may be, and whose."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._flying: dict[str, Flying] = {}
        self._units: dict[tuple[str, str], int] = {}  # by sale and customer

    def __len__(self) -> int:
        return len(self._flying)

    def find(self, order_id: str) -> Flying | None:
        return self._flying.get(order_id)

    def has_room(self, owner: Hashable) -> bool:
        """Takes a place for an order of `owner`. It is left by `landed`, or by `left` if the order never took off."""
        return self._room.enter(owner)

    def left(self, owner: Hashable) -> None:
        self._room.leave(owner)

    def took_off(self, order: Order, owner: Hashable) -> None:
        buyer = (order.sale_id, order.customer_id)
        self._flying[order.order_id] = Flying(order, owner)
        self._units[buyer] = self._units.get(buyer, 0) + order.quantity

    def units(self, buyer: tuple[str, str]) -> int:
        return self._units.get(buyer, 0)

    def counted_twice(self, buyer: tuple[str, str], line: Line) -> int:
        """Units in flight that are in the line too: the log can be faster than the word that a frame is stored."""
        if buyer not in self._units:
            return 0
        orders = (flying.order for flying in self._flying.values())
        return sum(
            order.quantity
            for order in orders
            if (order.sale_id, order.customer_id) == buyer and line.find(order.order_id) is not None
        )

    def landed(self, order: Order) -> None:
        """The order's storing has ended, well or not. Saying so twice changes nothing."""
        flying = self._flying.pop(order.order_id, None)
        if flying is None:
            return
        self._room.leave(flying.owner)
        for waiter in flying.waiters:
            if not waiter.done():
                waiter.set_result(None)
        buyer = (order.sale_id, order.customer_id)
        left = self._units.get(buyer, 0) - order.quantity
        if left > 0:
            self._units[buyer] = left
        else:
            self._units.pop(buyer, None)
