"""What the API knows of pets and service packages while ordinary orders are accepted into the line.

The database judges again at drain; this is there so that nobody waits in line for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from peakclip.messages import Booking
from peakclip.store import query
from peakclip_api.known import Known


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

    async def refusal(self, tenant: str, customer_id: str, booking: Booking) -> str | None:
        """Why such an order cannot be, in the words of create_orders(); None if it can.

        Raises what asyncpg raises while the database is away and nothing is known.
        """
        if await self._pets.get(booking.pet_id) != Pet(tenant, customer_id):
            return "unknown-pet"
        if await self._packages.get(booking.service_package_id) != tenant:
            return "unknown-package"
        return None
