"""Customers of a flash sale as they are: most want to pay, many never do, some pay too late, twice, or after they
have cancelled; whoever was told *sold out* comes again until the last unit is paid for."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import aiohttp
from faults.history.record import History, Kind
from support import until

from peakclip.local.stack import TENANT

CONNECTIONS: Final = 96
TRY_AGAIN_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 0.25
_COME_AGAIN: Final = (0, 503)  # no answer, or none that says anything

# What becomes of a hundred customers who get a unit. Only those who never pay (40) are not eligible in the end, and
# those who cancel (6): the others pay in time, or are too late and then come again.
PLANS: Final = (
    ("never", 40),
    ("at once", 30),
    ("at the deadline", 12),
    ("twice", 8),
    ("pay and cancel at once", 4),
    ("after cancelling", 4),
    ("after cancelling, without a key", 2),
)


@dataclass(slots=True)
class Shop:
    """One sale and all who come to it. What the answers said is in the counters."""

    url: str
    key: str
    sale: str
    stock: int
    chance: random.Random
    answers: Counter[str] = field(default_factory=Counter)
    plans: Counter[str] = field(default_factory=Counter)
    accepted: dict[str, int] = field(default_factory=dict)  # order id -> quantity: every 202
    paid: set[str] = field(default_factory=set)  # order ids whose payment was answered 200
    refunded: int = 0  # payments that were answered 409 with `refunded`
    wrong: list[str] = field(default_factory=list)
    history: History = field(default_factory=lambda: History(TENANT))
    names: str = ""  # what all customers' names begin with; the sale's id if nothing is said
    _session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the shop is not open")
        return self._session

    async def run(self, buyers: int, deadline_seconds: float) -> None:
        """Everybody at once, and those who got nothing again and again, until as many have paid as there are units."""
        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        timeout = aiohttp.ClientTimeout(total=None, sock_read=30)  # the wait for a connection does not count
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as self._session:
            names = [f"{self.names or self.sale}-{number}" for number in range(buyers)]
            plans = self._plans(buyers)
            tasks = [
                asyncio.create_task(self._shopper(name, plan))
                for name, plan in zip(names, plans, strict=True)
            ]
            try:
                await until(
                    lambda: self.all_paid or all(task.done() for task in tasks), deadline_seconds, 0.2
                )
            finally:
                print(f"{len(self.paid):,} paid, {len(self.accepted):,} accepted, {dict(self.answers)}")
                for task in tasks:
                    task.cancel()
                for done in await asyncio.gather(*tasks, return_exceptions=True):
                    if isinstance(done, Exception):
                        self.wrong.append(repr(done))

    def _plans(self, buyers: int) -> list[str]:
        names, weights = zip(*PLANS, strict=True)
        plans = self.chance.choices(names, weights, k=buyers)
        self.plans.update(plans)
        return plans

    @property
    def all_paid(self) -> bool:
        return len(self.paid) >= self.stock

    async def _shopper(self, name: str, plan: str) -> None:
        for attempt in itertools.count():  # whoever gives up claims nothing of what comes back later
            order_id = await self._order(name, f"{name}-{attempt}")
            if order_id is None:
                await asyncio.sleep(TRY_AGAIN_SECONDS * self.chance.uniform(0.5, 1.5))
                continue
            order = await self._drained(order_id, name)
            if order["status"] != "pending_payment":
                self.answers[f"drained: {order['status']}"] += 1
                continue
            if await self._settle(plan, order, name):
                return

    async def _order(self, name: str, key: str) -> str | None:
        status, body = await self._post(Kind.PURCHASE, None, name, key, {"quantity": 1})
        if status == 202:
            self.accepted[body["order_id"]] = 1
            return str(body["order_id"])
        if body["type"].rpartition("/")[2] not in ("sold-out", "limit-reached"):
            self.wrong.append(f"ordering: {status} {body}")
        return None

    async def _drained(self, order_id: str, name: str) -> dict[str, Any]:
        while True:
            attempt = self.history.invoke(Kind.READ, order_id=order_id, customer=name)
            status, body = await self._ask("GET", f"/v1/orders/{order_id}", self._headers(name), attempt)
            if status == 200 and body["status"] != "queued":
                return body
            if status not in (200, *_COME_AGAIN):
                self.wrong.append(f"looking: {status} {body}")
            await asyncio.sleep(LOOK_SECONDS)

    async def _settle(self, plan: str, order: Mapping[str, Any], name: str) -> bool:
        """Does what the customer is like. True: does not come again."""
        order_id = order["order_id"]
        if plan == "never":
            return True
        if plan == "at once":
            await asyncio.sleep(self.chance.uniform(0.0, 0.5))
            return await self._pay(order_id, name, "a")
        if plan == "at the deadline":
            left = datetime.fromisoformat(order["expires_at"]).timestamp() - time.time()
            await asyncio.sleep(max(0.0, left + self.chance.uniform(-0.02, 0.005)))
            return await self._pay(order_id, name, "a")
        if plan == "twice":
            first, second = await asyncio.gather(
                self._pay(order_id, name, "a"), self._pay(order_id, name, "b")
            )
            return first or second
        if plan == "pay and cancel at once":
            await asyncio.gather(self._pay(order_id, name, "a", note=False), self._cancel(order_id, name))
            # The answers may have overtaken each other: what the order is in the end counts.
            if (await self._drained(order_id, name))["status"] == "paid":
                self.paid.add(order_id)
            return True
        await self._cancel(order_id, name)
        await self._pay(order_id, name, "late" if plan == "after cancelling" else None)
        return True

    async def _pay(self, order_id: str, name: str, key: str | None, *, note: bool = True) -> bool:
        payment = f"{order_id}-{key}" if key else None
        status, body = await self._post(Kind.PAY, order_id, name, payment, {})
        if status == 200 and body["status"] == "paid":
            if note:
                self.paid.add(order_id)
            return True
        self.answers[f"pay: {status}"] += 1
        if status == 409 and body.get("refunded"):
            self.refunded += 1
        elif status != 200:
            self.wrong.append(f"paying: {status} {body}")
        return False

    async def _cancel(self, order_id: str, name: str) -> None:
        status, body = await self._post(Kind.CANCEL, order_id, name, f"{order_id}-cancel", {})
        self.answers[f"cancel: {status}"] += 1
        if status not in (200, 409):
            self.wrong.append(f"cancelling: {status} {body}")

    def _headers(self, name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}", "Peakclip-Customer": name}

    async def _post(
        self, kind: Kind, order_id: str | None, name: str, key: str | None, body: Mapping[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        """`order_id` None: a new order."""
        path = f"/v1/sales/{self.sale}/orders" if order_id is None else f"/v1/orders/{order_id}/{kind}"
        headers = self._headers(name) | ({"Idempotency-Key": key} if key else {})
        while True:
            attempt = self.history.invoke(kind, order_id=order_id, key=key, customer=name, sale=self.sale)
            status, said = await self._ask("POST", path, headers, attempt, body)
            if status not in _COME_AGAIN:
                return status, said
            await asyncio.sleep(0.5)

    async def _ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        attempt: int,
        body: Mapping[str, Any] | None = None,
    ) -> tuple[int, dict[str, Any]]:
        """The answer, noted; status 0: there was none."""
        try:
            async with self.session.request(
                method, f"{self.url}{path}", json=body, headers=headers
            ) as answer:
                status, said = answer.status, await answer.json() if answer.status != 503 else {}
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            self.answers[type(exc).__name__] += 1
            self.history.unknown(attempt, repr(exc))
            return 0, {}
        self.answers["503"] += status == 503
        self.history.answered(attempt, status, said)
        return status, said
