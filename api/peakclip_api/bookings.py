"""What the API knows of pets and service packages while ordinary orders are accepted into the line.

The database judges again at drain; this is there so that nobody waits in line for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from peakclip.messages import Order
from peakclip.store import query
from peakclip_api.known import Known
from peakclip_api.problems import Problem, invalid


class Pet(NamedTuple):
    tenant: str
    customer_id: str


class Bookable:
    """Pets and packages by id."""

    def __init__(self, pool: Any, clock: Callable[[], float]) -> None:
        async def load_pets(ids: Sequence[str]) -> dict[str, Pet]:
            rows = await pool.fetch(query("find_pets"), list(ids))
            return {row["pet_id"]: Pet(row["tenant"], row["customer_id"]) for row in rows}

        async def load_packages(ids: Sequence[str]) -> dict[str, str]:
            rows = await pool.fetch(query("find_service_packages"), list(ids))
            return {row["service_package_id"]: row["tenant"] for row in rows}

        self._pets = Known(load_pets, clock)
        self._packages = Known(load_packages, clock)

    async def check(self, order: Order) -> None:
        """Raises Problem 422 if such an order cannot be; what asyncpg raises while the database is away and nothing is
        known."""
        booking = order.booking
        if booking is None or await self._pets.get(booking.pet_id) != Pet(order.tenant, order.customer_id):
            raise refused("unknown-pet")
        if await self._packages.get(booking.service_package_id) != order.tenant:
            raise refused("unknown-package")


def refused(reason: str) -> Problem:
    """What create_orders() says, for the client."""
    field = {"unknown-pet": "pet_id", "unknown-package": "service_package_id"}[reason]
    return invalid(field, "names nothing that this customer can order")
