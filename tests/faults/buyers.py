"""Customers who do not give up: the load client's connections, and a note of every answer they got.

Each order has a customer and an Idempotency-Key of its own. A lost answer is asked for again with the same key;
some keys are sent twice at once, and some of those answered long ago are sent again: they must name the same order.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import msgspec
from faults.drivers import AttentiveDriver
from faults.history.record import History, Kind

from peakclip.load.access import post
from peakclip.load.http import order_requests
from peakclip.load.outcome import Answer, LoadOptions, Progress, problem_name
from peakclip.local.stack import TENANT
from peakclip.messages import order_id


@dataclass(frozen=True, slots=True)
class Request:
    raw: bytes
    order_id: str  # what the key names
    customer: str
    answered: bool = False  # was answered 202 before


def heard(accepted: Callable[[int], None] | None) -> Callable[[Progress], None] | None:
    """For a driver: tells how many more were accepted, whenever there were any."""
    if accepted is None:
        return None
    before = 0

    def progress(now: Progress) -> None:
        nonlocal before
        more, before = now.accepted - before, now.accepted
        if more:
            accepted(more)

    return progress


class Buyers:
    """All the customers of one test."""

    def __init__(
        self,
        url: str,
        key: str,
        chance: random.Random,
        history: History | None = None,
        *,
        names: str = "f",
        answered: Callable[[int], None] | None = None,
    ) -> None:
        """`names`: what customers' names begin with, after `c-`. `answered` hears how many were accepted, meanwhile."""
        self._names = names
        self._answered = answered
        self._url = url
        self._key = key
        self._chance = chance
        self._runs = 0
        self.known: dict[str, list[Request]] = {}  # sale -> accepted requests
        self.accepted: dict[str, int] = {}  # order id -> quantity: every 202
        self.refused: dict[str, str] = {}  # order id -> problem, of orders that were never accepted
        self.wrong: list[str] = []  # answers that break the contract, in words
        self.sent = self.repeats = self.retries = 0
        self.causes: Counter[str] = Counter()
        self.answered: list[float] = []  # epoch seconds of each 202
        self.history = History(TENANT) if history is None else history

    async def wave(
        self,
        sale: str,
        orders: int,
        *,
        rate: float | None = None,
        connections: int = 64,
        again: float = 0.1,
        deadline: float = 90.0,
        patience: float = 5.0,
    ) -> Counter[str]:
        """New orders, all at once or at a rate, and `again` times as many repeats: how often which answer came.

        Who has no answer after `patience` seconds asks again.
        """
        requests = self._requests(sale, orders, again)
        return await self._send(sale, requests, rate, connections, deadline, patience)

    async def ask_again(self, sale: str, connections: int = 32) -> Counter[str]:
        """Every order of the sale that was ever accepted, once more."""
        requests = self._chance.sample(known := self.known.get(sale, []), len(known))
        self.repeats += len(requests)
        return await self._send(sale, requests, None, connections, 90.0, 5.0)

    async def _send(
        self,
        sale: str,
        requests: list[Request],
        rate: float | None,
        connections: int,
        deadline: float,
        patience: float,
    ) -> Counter[str]:
        options = LoadOptions(
            url=self._url, sale=sale, key=self._key, orders=len(requests), connections=connections, rate=rate,
            answer_timeout=patience, deadline=deadline, connect_within=max(60.0, deadline),
        )  # fmt: skip
        driver = AttentiveDriver(options, urlsplit(self._url), [request.raw for request in requests])
        await driver.open()
        attempts = [
            self.history.invoke(
                Kind.PURCHASE, order_id=request.order_id, sale=sale, customer=request.customer
            )
            for request in requests
        ]
        await driver.run(heard(self._answered))
        self.retries += driver.retries
        self.causes += driver.causes
        self.answered += (
            driver.started_at + one.at for one in driver.answers if one is not None and one.status == 202
        )
        answers: Counter[str] = Counter()
        pairs = list(zip(requests, driver.answers, strict=True))
        for job, (request, answer) in enumerate(pairs):
            answers[self._note(sale, request, answer)] += 1
            self._record(
                attempts[job], answer, asked_again=driver.attempts[job] > 0, asked=driver.asked.get(job, 0.0),
                began=driver.started_at,
            )  # fmt: skip
        self._note_changes_of_mind(pairs)
        return answers

    def _record(
        self,
        attempt: int,
        answer: Answer | None,
        *,
        asked_again: bool,
        asked: float = 0.0,
        began: float = 0.0,
    ) -> None:
        """From the beginning of the wave to its end: within that it was asked for, as often as the driver did.

        `asked`: when the request was sent whose answer this is; `began`: when the wave did.
        """
        if answer is None:
            self.history.unknown(attempt, "no final answer")
            return
        accepted = answer.status == 202
        body = (
            msgspec.json.decode(answer.body)
            if accepted
            else {"type": problem_name(answer.status, answer.body)}
        )
        self.history.answered(
            attempt, answer.status, body, at=began + answer.at, asked=asked, again=asked_again
        )

    def _note_changes_of_mind(self, pairs: Sequence[tuple[Request, Answer | None]]) -> None:
        """A key that was sent again after its first answer had come must get that answer again."""
        accepted: dict[str, float] = {}  # order id -> seconds after the start of the wave
        for request, answer in pairs:
            if answer is not None and answer.status == 202:
                accepted[request.order_id] = min(answer.at, accepted.get(request.order_id, answer.at))
        for request, answer in pairs:
            if answer is None or answer.status == 202 or request.order_id not in accepted:
                continue
            if answer.at - answer.latency > accepted[request.order_id]:
                self.wrong.append(f"{request.order_id}: accepted, and when it was sent again {answer.status}")

    def _requests(self, sale: str, orders: int, again: float) -> list[Request]:
        self._runs += 1
        run = f"{self._names}{self._chance.randrange(16**6):06x}-{self._runs}"
        raws = order_requests(
            host=urlsplit(self._url).netloc,
            path=f"/v1/sales/{sale}/orders",
            key=self._key,
            run=run,
            count=orders,
        )
        new = [Request(raw, order_id(TENANT, f"k-{run}-{i}"), f"c-{run}-{i}") for i, raw in enumerate(raws)]
        few = round(orders * again / 2)
        twice = self._chance.sample(new, few)
        known = self.known.get(sale, [])
        # Half of them the newest there are: an API process may not have heard of these yet.
        newest = known[-few // 2 :] if few else []
        old = [*newest, *self._chance.sample(known, min(few - len(newest), len(known)))]
        self.sent += orders
        self.repeats += len(twice) + len(old)
        requests = [*new, *twice, *old]
        self._chance.shuffle(requests)
        return requests

    def _note(self, sale: str, request: Request, answer: Answer | None) -> str:
        if answer is None:
            self.wrong.append(f"{request.order_id}: no final answer")
            return "unanswered"
        if answer.status != 202:
            problem = problem_name(answer.status, answer.body)
            if request.answered:
                self.wrong.append(f"{request.order_id}: accepted earlier, now {answer.status} {problem}")
            elif problem != "sold-out":
                self.wrong.append(f"{request.order_id}: {answer.status} {problem}")
            elif request.order_id not in self.accepted:
                self.refused[request.order_id] = problem
            return problem
        named = msgspec.json.decode(answer.body)["order_id"]
        if named != request.order_id:
            self.wrong.append(f"{request.order_id}: answered with the order id {named}")
        if named not in self.accepted:
            self.known.setdefault(sale, []).append(replace(request, answered=True))
        self.accepted[named] = 1
        self.refused.pop(request.order_id, None)
        return "accepted"


async def keep_buying(
    buyers: Buyers,
    sale: str,
    over: asyncio.Event,
    rate: float = 50.0,
    seconds: float = 2.0,
    again: float = 0.1,
) -> None:
    """Waves of so many seconds, one after another, until it is over."""
    while not over.is_set():
        await buyers.wave(sale, max(1, round(rate * seconds)), rate=rate, connections=16, again=again)


async def open_sale(credentials: Mapping[str, str], stock: int, pay_within: int) -> str:
    """Open for long before and after, so that a clock that is wrong changes nothing."""
    now = datetime.now(UTC)
    sale = await post(credentials["url"], "/v1/sales", credentials["admin"], {
        "product": "Whatever happens", "stock": stock, "price_cents": 4900, "per_customer_limit": 1,
        "opens_at": (now - timedelta(days=1)).isoformat(), "closes_at": (now + timedelta(days=1)).isoformat(),
        "pay_within_seconds": pay_within,
    })  # fmt: skip
    return str(sale["sale_id"])
