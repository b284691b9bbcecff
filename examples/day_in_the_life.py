"""A day in the life of one order: from its creation to the answer to its review, seen from every side at once.

    python examples/day_in_the_life.py DATA     # DATA: the folder of a running `peakclip up --data DATA`

A customer and a provider hold their notification streams open, somebody listens to the events on NATS, and at the end
the database is asked what it has kept. Whatever is missing, doubled or wrong ends the program with an exit code of 1.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import nats

PLACE = {"latitude": 48.8584, "longitude": 2.2945}
NEAR = {"latitude": 48.8606, "longitude": 2.3376}  # 3 km from there
FAR = {"latitude": 43.2965, "longitude": 5.3698}
PRICE_CENTS = 2500
LIFE = ["order.created", "order.paid", "order.accepted", "order.started", "order.completed"]


class Person:
    """Somebody with a key of their own, and what they were told."""

    def __init__(self, http: aiohttp.ClientSession, url: str, key: str) -> None:
        self._http, self._url = http, url
        self._headers = {"Authorization": f"Bearer {key}"}
        self.told: list[dict[str, Any]] = []
        self.listening = asyncio.Event()

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        headers = {**self._headers, "Idempotency-Key": str(uuid.uuid4())}
        async with self._http.request(method, self._url + path, json=body, headers=headers) as answer:
            found = await answer.json()
            if answer.status >= 400:
                raise SystemExit(f"{method} {path}: {answer.status} {found['detail']}")
            return found

    async def listen(self) -> None:
        """Reads the stream of notifications (server-sent events) until cancelled."""
        timeout = aiohttp.ClientTimeout(total=None)
        async with self._http.get(
            f"{self._url}/v1/notifications/stream", headers=self._headers, timeout=timeout
        ) as stream:
            self.listening.set()
            async for line in stream.content:
                if line.startswith(b"data:"):
                    self.told.append(json.loads(line[5:]))


def new_key(data: str, role: str, subject: str) -> str:
    """As an operator does at the terminal."""
    command = ["peakclip", "keys", "create", "--data", data, "--role", role, "--subject", subject]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]


def expect(what: str, found: Any, wanted: Any) -> None:
    print(f"  {'ok ' if found == wanted else 'NOT'} {what}: {found}")
    if found != wanted:
        raise SystemExit(f"{what}: expected {wanted}")


async def eventually(what: str, look: Any, wanted: Any, seconds: float = 30) -> None:
    """Effects follow within moments; nobody waits for them but us."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        found = await look()
        if found == wanted or asyncio.get_running_loop().time() > deadline:
            return expect(what, found, wanted)
        await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def events_of(nats_url: str, found: list[dict[str, Any]]) -> AsyncIterator[Any]:
    """Everything that is published about orders and reviews, with the CloudEvents attributes from its headers."""
    user = urlsplit(nats_url).username
    connection = await nats.connect(
        nats_url, inbox_prefix=f"_INBOX_{user}"
    )  # a user hears its own answers only

    async def heard(message: Any) -> None:
        headers = message.headers or {}
        found.append({"type": headers["ce-type"], "id": headers["ce-id"], "data": json.loads(message.data)})

    for subject in ("order.*", "review.*"):
        await connection.subscribe(subject, cb=heard)
    await connection.flush()
    yield connection
    await connection.close()


async def main(data: str) -> None:
    credentials = json.loads((Path(data) / "credentials.json").read_text())
    url = credentials["url"]
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        database = await asyncpg.connect(credentials["database_url"])
        stack.push_async_callback(database.close)
        heard: list[dict[str, Any]] = []
        bus = await stack.enter_async_context(events_of(credentials["nats_url"], heard))
        admin = Person(http, url, credentials["admin"])
        day = await DayInTheLife.begin(data, http, url, admin)
        listeners = [asyncio.create_task(one.listen()) for one in (day.customer, day.near, day.far)]
        for one in (day.customer, day.near, day.far):
            await one.listening.wait()
        figures = await day.figures()
        order_id, review_id = await day.live()
        await day.check_wire(heard, order_id, review_id)
        await day.check_notifications(order_id)
        await day.check_effects(database, order_id, review_id, figures)
        await day.check_reads(bus, order_id)
        for listener in listeners:
            listener.cancel()
    print("Everything happened once.")


class DayInTheLife:
    def __init__(self, admin: Person, people: list[Person], ids: dict[str, str]) -> None:
        self.admin = admin
        self.customer, self.near, self.far = people
        self._ids = ids

    @classmethod
    async def begin(cls, data: str, http: aiohttp.ClientSession, url: str, admin: Person) -> DayInTheLife:
        """Master data, and a key for each of three people."""
        near = await admin.call("POST", "/v1/providers", {"name": "Grace", "radius_m": 5000, **NEAR})
        far = await admin.call("POST", "/v1/providers", {"name": "Alan", "radius_m": 5000, **FAR})
        package = await admin.call(
            "POST",
            "/v1/service-packages",
            {"name": "A walk", "price_cents": PRICE_CENTS, "duration_minutes": 45},
        )
        names = (
            ("customer", f"ada-{uuid.uuid4().hex[:8]}"),
            ("provider", near["provider_id"]),
            ("provider", far["provider_id"]),
        )
        keys = [await asyncio.to_thread(new_key, data, role, subject) for role, subject in names]
        people = [Person(http, url, key) for key in keys]
        pet = await people[0].call("POST", "/v1/pets", {"name": "Lovelace", "species": "dog"})
        ids = {
            "pet_id": pet["pet_id"],
            "service_package_id": package["service_package_id"],
            "provider_id": near["provider_id"],
        }
        return cls(admin, people, ids)

    async def figures(self) -> dict[str, Any]:
        """Of today."""
        today = datetime.now(UTC).date().isoformat()
        report = await self.admin.call("GET", f"/v1/reports/daily?from={today}&to={today}")
        found: dict[str, Any] = report["items"][0]
        return found

    async def live(self) -> tuple[str, str]:
        print("The day")
        service_date = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        wanted = {name: self._ids[name] for name in ("pet_id", "service_package_id")}
        placed = await self.customer.call(
            "POST", "/v1/orders", {**wanted, "service_date": service_date, **PLACE}
        )
        order = f"/v1/orders/{placed['order_id']}"
        expect("ordered", placed["status"], "created")
        expect("paid", (await self.customer.call("POST", f"{order}/pay"))["status"], "paid")
        for action, status in (("accept", "accepted"), ("start", "started"), ("complete", "completed")):
            expect(status, (await self.near.call("POST", f"{order}/{action}"))["status"], status)
        review = await self.customer.call(
            "POST", "/v1/reviews", {"order_id": placed["order_id"], "rating": 2, "comment": "It rained."}
        )
        expect("reviewed", review["rating"], 2)
        path = f"/v1/reviews/{review['review_id']}/reply"
        expect("replied", (await self.near.call("POST", path, {"text": "Sorry!"}))["reply"], "Sorry!")
        return placed["order_id"], review["review_id"]

    async def check_wire(self, heard: list[dict[str, Any]], order_id: str, review_id: str) -> None:
        print("On the wire")
        wanted = [*LIFE, "review.created", "review.replied"]

        async def types() -> list[str]:
            mine = [one for one in heard if one["data"]["order_id"] == order_id]
            return sorted({one["id"]: one["type"] for one in mine}.values(), key=wanted.index)

        await eventually("events", types, wanted)
        ids = [one["id"] for one in heard if one["data"]["order_id"] == order_id]
        expect(
            "their ids",
            ids,
            [
                *(f"{order_id}:{version}" for version in range(1, 6)),
                f"{review_id}:created",
                f"{review_id}:replied",
            ],
        )

    async def check_notifications(self, order_id: str) -> None:
        print("What people were told")

        async def kinds(person: Person) -> Counter[str]:
            return Counter(one["kind"] for one in person.told if one["order_id"] == order_id)

        await eventually("the customer", lambda: kinds(self.customer), Counter([*LIFE, "review.replied"]))
        await eventually(
            "the provider", lambda: kinds(self.near), Counter(["order.created", "review.created"])
        )
        expect("the provider who is far away", self.far.told, [])
        kept = await self.customer.call("GET", "/v1/notifications")
        expect("still to be read", len(kept["items"]), len(self.customer.told))

    async def check_effects(
        self, database: Any, order_id: str, review_id: str, before: dict[str, Any]
    ) -> None:
        print("What the database has kept")

        async def trail() -> list[str]:
            rows = await database.fetch(
                "select event from order_history where order_id = $1 order by version", order_id
            )
            return [row["event"] for row in rows]

        await eventually("audit trail", trail, LIFE)
        provider = f"/v1/providers/{self._ids['provider_id']}"

        async def statistics() -> tuple[int, float, int]:
            found = await self.admin.call("GET", provider)
            return found["rating_count"], found["rating_average"], found["completed_orders"]

        await eventually("ratings, average, completed orders", statistics, (1, 2.0, 1))
        tickets = await database.fetch("select status, rating from tickets where review_id = $1", review_id)
        expect("ticket for customer service", [tuple(row) for row in tickets], [("open", 2)])
        names = ("orders", "completed", "cancellations", "revenue_cents", "refunds_cents", "ratings")

        async def growth() -> tuple[int, ...]:
            after = await self.figures()
            return tuple(after[name] - before[name] for name in names)

        await eventually(f"today's {', '.join(names)}", growth, (1, 1, 0, PRICE_CENTS, 0, 1))
        rows = await database.fetch(
            "select kind, amount_cents from audit_payments where order_id = $1", order_id
        )
        expect("payment", [tuple(row) for row in rows], [("payment", PRICE_CENTS)])
        effects = await database.fetch(
            "select effect from audit_effects where event_id like $1 || ':%' or event_id like $2 || ':%'",
            order_id, review_id,
        )  # fmt: skip
        expect("effects", Counter(row["effect"] for row in effects), Counter({
            "audit": 5, "notify-customer": 6, "notify-provider": 1, "notify-providers": 1, "ticket": 1,
            "daily-figures": 4, "provider-statistics": 2,
        }))  # fmt: skip
        dead = "select count(*) from audit_dead_letters where message_id like '%' || $1 || '%'"
        expect("dead letters", await database.fetchval(dead, order_id), 0)

    async def check_reads(self, bus: Any, order_id: str) -> None:
        print("Who asks")
        question = json.dumps({"tenant": "default", "order_id": order_id}).encode()
        answer = json.loads((await bus.request("peakclip.orders.get", question, timeout=5)).data)
        expect("by request-reply", answer["status"], "completed")
        for person, words in ((self.customer, "the customer"), (self.near, "the provider")):
            expect(
                f"{words}, over HTTP",
                (await person.call("GET", f"/v1/orders/{order_id}"))["status"],
                "completed",
            )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
