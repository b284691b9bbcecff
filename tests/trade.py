"""A tenant with master data, made through the HTTP API, for tests of the order business."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from pools import drain, orders_pool, relay
from support import ADMIN_KEY, SERVICE_KEY, TENANT, Answer, Api, new_name

from peakclip import topology
from peakclip.credentials import store_key
from peakclip.jetstream import JetStream
from peakclip.limiter.pace import set_pace

PLACE = (52.52, 13.405)  # Berlin


@contextlib.asynccontextmanager
async def line_at_work(js: JetStream, database: Any, rate: float = 500) -> AsyncIterator[None]:
    """Relay and one worker of the pool `orders`."""
    await set_pace(js, topology.ORDERS_POOL, limit_per_second=rate)
    async with (
        relay(js, database),
        drain(js, orders_pool(js, database), topology.ORDERS_POOL),
    ):
        yield


@dataclass(frozen=True)
class Shop:
    """Each method makes a thing and returns it as the API answered it. Customers are named by `Peakclip-Customer`."""

    api: Api
    database: Any

    async def create(self, path: str, body: dict[str, Any], *, key: str = ADMIN_KEY, **headers: str) -> Any:
        answer = await self.post(path, body, key=key, **headers)
        assert answer.status == 201, answer
        assert answer.headers["Location"].startswith(path + "/")
        return answer.body

    async def post(
        self,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        key: str = ADMIN_KEY,
        customer: str | None = None,
        idempotency: str | None = None,
        **headers: str,
    ) -> Answer:
        """With a new Idempotency-Key unless one is given."""
        sent = {"Idempotency-Key": idempotency or new_name("key-"), **headers}
        if customer is not None:
            sent["Peakclip-Customer"] = customer
        options = {} if body is None else {"json": body}
        return await self.api.call("POST", path, key=key, headers=sent, **options)

    async def provider(
        self, at: tuple[float, float] = PLACE, *, tenant: str = TENANT, **changes: Any
    ) -> tuple[str, str]:
        """Its id, and an API key of its own."""
        body = {"name": new_name("Provider "), "latitude": at[0], "longitude": at[1], **changes}
        provider_id = (await self.create("/v1/providers", body))["provider_id"]
        key = f"pk_of_{provider_id}"
        await store_key(self.database, key, tenant, provider_id, "provider")
        return provider_id, key

    async def pet(self, customer: str = "ann", **changes: Any) -> str:
        body = {"name": "Momo", "species": "dog", **changes}
        answer = await self.post("/v1/pets", body, key=SERVICE_KEY, customer=customer)
        assert answer.status == 201, answer
        return str(answer.body["pet_id"])

    async def package(self, price_cents: int = 4_900, **changes: Any) -> str:
        body = {"name": "Bath", "price_cents": price_cents, "duration_minutes": 60, **changes}
        return str((await self.create("/v1/service-packages", body))["service_package_id"])

    async def booking(self, customer: str = "ann", **changes: Any) -> dict[str, Any]:
        """The body of an order that can be placed."""
        return {
            "pet_id": await self.pet(customer),
            "service_package_id": await self.package(),
            "service_date": "2026-12-24T10:00:00Z",
            **changes,
        }

    async def order(self, customer: str = "ann", **changes: Any) -> str:
        """An ordinary order, `created`."""
        body = await self.booking(customer, **changes)
        answer = await self.post("/v1/orders", body, key=SERVICE_KEY, customer=customer)
        assert answer.status == 201, answer
        return str(answer.body["order_id"])

    async def act(self, order_id: str, action: str, *, key: str = ADMIN_KEY, **options: Any) -> Answer:
        """A transition, without an Idempotency-Key unless one is in `headers`."""
        return await self.api.call("POST", f"/v1/orders/{order_id}/{action}", key=key, **options)

    async def status(self, order_id: str) -> str:
        return str((await self.api.call("GET", f"/v1/orders/{order_id}", key=ADMIN_KEY)).body["status"])


async def insert_orders(
    database: Any, count: int, *, customer: str = "ann", status: str = "created", **columns: Any
) -> list[str]:
    """Rows of seven different moments, as nobody has made them. Ids, newest first."""
    names = "".join(f", {name}" for name in columns)
    values = "".join(f", ${place}" for place in range(3, 3 + len(columns)))
    rows = await database.fetch(
        "insert into orders (order_id, tenant, customer_id, status, fingerprint, accepted_at, committed_at"
        f"{names}) select gen_random_uuid(), '{TENANT}', $1, $2, 'f', now(),"
        f" timestamptz '2026-01-01 00:00:00.000001Z' + make_interval(secs => n % 7){values}"
        f" from generate_series(1, {count}) n returning order_id, committed_at",
        customer, status, *columns.values(),
    )  # fmt: skip
    rows = sorted(rows, key=lambda row: (row["committed_at"], row["order_id"].bytes), reverse=True)
    return [str(row["order_id"]) for row in rows]
