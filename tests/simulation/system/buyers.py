"""Customers of a flash sale as they are, and the history of what they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec
from faults.history.record import History, Kind
from simulation.system.front import NO_ANSWER, Answer, Front
from simulation.system.plan import Buyer, Plan

from peakclip_operator.simulation.events.broker import EPOCH

TENANT: Final = "t"
_LOOK_SECONDS: Final = 0.4
_MOST_LOOKS: Final = 400
_MOST_TRIES: Final = 60
_PROBLEM: Final = "https://peakclip.dev/problems/"


class Customers:
    """`now`: seconds of the run. `over` tells that the run is: nobody begins anything new then."""

    def __init__(self, plan: Plan, front: Front, now: Callable[[], float]) -> None:
        self._plan = plan
        self._front = front
        self._now = now
        self.history = History(TENANT, lambda: EPOCH + now())
        self.sale_ids: list[str] = []
        self.under_way = 0  # customers who have not finished
        self.over = False
        self.defects: list[str] = []  # answers that nobody may ever get

    async def open_sales(self) -> None:
        for sale in self._plan.sales:
            wish = {
                "product": "shoes", "stock": sale.stock, "price_cents": 100, "opens_at": "2020-01-01T00:00:00Z",
                "closes_at": "2030-01-01T00:00:00Z", "per_customer_limit": sale.limit,
                "pay_within_seconds": sale.pay_within,
            }  # fmt: skip
            while True:
                answer = await self._front.call(
                    "create sale", key=sale.key, role="admin", body=msgspec.json.encode(wish)
                )
                if answer.status == 201:
                    break
                await asyncio.sleep(0.1)
            self.sale_ids.append(answer.body["sale_id"])

    async def change(self, at: float, sale: int, stock: int) -> None:
        """The admin's wish, until there is an answer; it may be refused."""
        self.under_way += 1
        try:
            await asyncio.sleep(at)
            body = b'{"stock": %d}' % stock
            for _ in range(_MOST_TRIES):
                if self.over:
                    break
                answer = await self._front.call(
                    "change sale", role="admin", body=body, sale_id=self.sale_ids[sale]
                )
                if answer.status in (200, 404, 409):
                    break
                if answer.status not in (0, 503):
                    self.defects.append(f"{answer.status} {answer.body} at {self._now():.3f}")
                await asyncio.sleep(0.3)
        finally:
            self.under_way -= 1

    async def come(self, number: int, buyer: Buyer) -> None:
        self.under_way += 1
        try:
            await asyncio.sleep(buyer.comes_at)
            for purchase in range(buyer.keys):
                await self._buy(buyer, f"k{number}-{purchase}")
        finally:
            self.under_way -= 1

    async def _buy(self, buyer: Buyer, key: str) -> None:
        sale_id = self.sale_ids[buyer.sale]
        if buyer.twin:
            answer, _ = await asyncio.gather(*(self._purchase(buyer, sale_id, key) for _ in range(2)))
        else:
            answer = await self._purchase(buyer, sale_id, key)
        for _ in range(buyer.again):
            await asyncio.sleep(buyer.hurry)
            answer = await self._purchase(buyer, sale_id, key)
        if answer.status != 202 or buyer.plan == "never":
            return
        order = await self._until_drained(buyer, answer.body["order_id"])
        if order is not None and order["status"] == "pending_payment":
            await self._settle(buyer, order, key)

    async def _purchase(self, buyer: Buyer, sale_id: str, key: str) -> Answer:
        body = b'{"quantity": %d}' % buyer.quantity

        def invoke() -> int:
            return self.history.invoke(
                Kind.PURCHASE, key=key, customer=buyer.name, sale=sale_id, quantity=buyer.quantity
            )

        def call() -> Any:
            return self._front.call("purchase", customer=buyer.name, key=key, body=body, sale_id=sale_id)

        return await self._until_told(buyer, invoke, call)

    async def _until_told(self, buyer: Buyer, invoke: Callable[[], int], call: Callable[[], Any]) -> Answer:
        """Asks again, with the same key, until there is an answer that says something."""
        for _ in range(_MOST_TRIES):
            if self.over:
                break
            attempt = invoke()
            answer: Answer = await call()
            if answer is NO_ANSWER:
                self.history.unknown(attempt, "connection-lost")
            else:
                self.history.answered(attempt, answer.status, answer.body)
            if answer.status >= 500 and answer.status != 503:
                self.defects.append(f"{answer.status} {answer.body} at {self._now():.3f}")
            if 0 < answer.status < 429 or answer.status > 503:
                return answer
            await asyncio.sleep(buyer.hurry)
        return NO_ANSWER

    async def _until_drained(self, buyer: Buyer, order_id: str) -> Any:
        for _ in range(_MOST_LOOKS):
            if self.over:
                break
            attempt = self.history.invoke(Kind.READ, order_id=order_id, customer=buyer.name)
            answer = await self._front.call("read", customer=buyer.name, order_id=order_id)
            if answer is NO_ANSWER:
                self.history.unknown(attempt, "connection-lost")
            else:
                self.history.answered(attempt, answer.status, answer.body)
            if answer.status == 200 and answer.body["status"] != "queued":
                return answer.body
            await asyncio.sleep(_LOOK_SECONDS)
        return None

    async def _settle(self, buyer: Buyer, order: Any, key: str) -> None:
        order_id = order["order_id"]
        match buyer.plan:
            case "at once":
                await self._act(buyer, Kind.PAY, order_id, f"{key}-p")
            case "at the deadline":
                due = msgspec.json.decode(msgspec.json.encode(order["expires_at"]), type=datetime).timestamp()
                await asyncio.sleep(max(0.0, due - EPOCH - self._now() - 0.003 + buyer.hurry / 200))
                await self._act(buyer, Kind.PAY, order_id, f"{key}-p")
            case "twice":
                await asyncio.gather(
                    self._act(buyer, Kind.PAY, order_id, f"{key}-p"),
                    self._act(buyer, Kind.PAY, order_id, f"{key}-q"),
                )
            case "pay and cancel":
                await asyncio.gather(
                    self._act(buyer, Kind.PAY, order_id, f"{key}-p"),
                    self._act(buyer, Kind.CANCEL, order_id, f"{key}-c"),
                )
            case "cancel":
                await self._act(buyer, Kind.CANCEL, order_id, f"{key}-c")
            case "cancel, then pay":
                await self._act(buyer, Kind.CANCEL, order_id, f"{key}-c")
                await self._act(buyer, Kind.PAY, order_id, f"{key}-p")

    async def _act(self, buyer: Buyer, kind: Kind, order_id: str, key: str) -> None:
        def invoke() -> int:
            return self.history.invoke(kind, order_id=order_id, key=key, customer=buyer.name)

        await self._until_told(
            buyer,
            invoke,
            lambda: self._front.call(str(kind), customer=buyer.name, key=key, order_id=order_id),
        )
