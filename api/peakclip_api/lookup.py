"""What is known of one order, wherever it is (in line or in the database), and of one provider.

HTTP and request-reply both ask here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from peakclip.store import DATABASE_AWAY, query
from peakclip_api.line import Entry, Follower, Line

# Below this many seconds from the front of the line, memory may lag behind the database.
NEAR_FRONT_SECONDS: Final = 2.0


class Lookup:
    """`eta_seconds` tells how long a place in line takes, or None while that is unknown."""

    def __init__(
        self, pool: Any, line: Line, follower: Follower, eta_seconds: Callable[[int], float | None]
    ) -> None:
        self._pool = pool
        self._line = line
        self._follower = follower
        self._eta_seconds = eta_seconds

    async def order(self, order_id: str) -> dict[str, Any] | None:
        """The order with its `tenant`, of whatever tenant; None if there is no such order. `order_id`: UUID text.

        Raises what asyncpg or NATS raises while neither memory nor the database can tell.
        """
        self._follower.asked()
        entry = self._line.find(order_id)
        if entry is not None and self._is_far_from_front(entry):
            return self._queued(entry)
        try:
            row = await self._pool.fetchrow(query("find_order"), order_id)
        except DATABASE_AWAY:
            if entry is None:
                raise
            row = None
        if row is not None:
            return dict(row)
        if entry is None:
            # Perhaps another process has accepted it, and this one has not heard of it yet.
            await self._follower.up_to_date()
            entry = self._line.find(order_id)
        return self._queued(entry) if entry is not None else None

    async def provider(self, tenant: str, provider_id: str) -> dict[str, Any] | None:
        """The provider with all that an admin may see; None if the tenant has none of this id."""
        row = await self._pool.fetchrow(query("find_provider"), provider_id, tenant)
        return {key: value for key, value in row.items() if key != "fingerprint"} if row is not None else None

    def _is_far_from_front(self, entry: Entry) -> bool:
        eta = self._eta_seconds(self._line.position(entry))
        return eta is not None and eta > NEAR_FRONT_SECONDS

    def _queued(self, entry: Entry) -> dict[str, Any]:
        position = self._line.position(entry)
        return {
            "order_id": entry.order.order_id,
            "tenant": entry.order.tenant,
            "customer_id": entry.order.customer_id,
            "sale_id": entry.order.sale_id or None,
            "quantity": entry.order.quantity,
            "status": "queued",
            "position": position,
            "eta_seconds": self._eta_seconds(position),
        }


SHOWN: Final = (
    "order_id", "customer_id", "sale_id", "quantity", "status", "position", "eta_seconds", "reason", "version",
    "amount_cents", "provider_id", "pet_id", "service_package_id", "service_date", "address", "latitude", "longitude",
    "note", "accepted_at", "started_at", "committed_at", "expires_at", "paid_at", "assigned_at", "service_started_at",
    "completed_at", "cancelled_at",
)  # fmt: skip


def shown(order: Mapping[str, Any]) -> dict[str, Any]:
    """As it is answered, from what `Lookup` or a row has: without what has no value, save `eta_seconds`."""
    queued = order["status"] == "queued"
    found = {name: order.get(name) for name in SHOWN}
    return {
        name: str(value) if name == "order_id" else value
        for name, value in found.items()
        if value is not None or (queued and name == "eta_seconds")
    }
