"""Those who come in one chapter, and what they do (see `crowd`)."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from faults.buyers import Buyers, Request
from faults.history.record import Kind
from faults.listeners import register
from faults.shoppers import Shop
from faults.soak.chapter import Chapter
from faults.soak.crowd import STEP_SECONDS, Crowd
from faults.soak.owners import Owners, Wish, booking

from peakclip.errors import PeakclipError
from peakclip.load.access import post

_DEADLINE: Final = 240.0  # until a final answer must have come, whatever is done to the system
_FLEETING, _ORDINARY = 0.08, 0.05  # of the rate
_BURSTS: Final = 0.2  # of the steps: all at once
_AGAIN: Final = 0.06  # requests that are repeats
_PAY_SOON, _PAY_LATER = 6, 6 * 3_600  # seconds; the latter is longer than any soak
_ACTED_ON: Final = 0.12  # share of the orders of `many` that are paid or cancelled
_LISTENERS: Final = 30
_STOCK, _SHOPPERS = 30, 120  # of the shop
_PETS: Final = 8
_TRY_AGAIN_SECONDS: Final = 1.0
_PROBE_SECONDS: Final = 0.5

# What is done with a hundred of those orders that something is done with.
_ACTS: Final[tuple[tuple[tuple[Kind, ...], int], ...]] = (
    ((Kind.PAY,), 60),
    ((Kind.CANCEL,), 30),
    ((Kind.PAY, Kind.CANCEL), 5),
    ((Kind.PAY, Kind.PAY), 5),
)
_WALK: Final = (Kind.ACCEPT, Kind.START, Kind.COMPLETE)


class Cast:
    """Those who come in one chapter."""

    def __init__(self, crowd: Crowd, chapter: Chapter, chance: random.Random) -> None:
        self._crowd = crowd
        self._chapter = chapter
        self._chance = chance
        self._credentials = crowd.system.credentials
        url, service = self._credentials["url"], self._credentials["service"]
        self.buyers = Buyers(
            url, service, chance, chapter.history, names=f"{chapter.name}-", answered=crowd.told.accepted
        )
        self.owners = Owners(url, service, chapter.history, crowd.told.accepted, _DEADLINE)
        self.wrong: list[str] = []
        # What the crowd has been told of already: several waves are under way at once.
        self._told_accepted = 0
        self._told: dict[type, tuple[int, Counter[str]]] = {}

    async def come(self, seconds: float) -> None:
        """Until the last answer is in, which may be long after `seconds`."""
        rate = self._crowd.rate
        units = max(1, round(0.7 * _PAY_SOON * _FLEETING * rate))
        many = await self.open_sale("many", 100_000_000, _PAY_LATER)
        fleeting = await self.open_sale("fleeting", units, _PAY_SOON)
        scarce = await self.open_sale("scarce", _STOCK, 2 * _PAY_SOON)
        pets = await self.prepare()
        end = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as group:
            group.create_task(self.shop(scarce))
            group.create_task(self.buy(many, (1.0 - _FLEETING - _ORDINARY) * rate, end, bursts=_BURSTS))
            group.create_task(self.buy(fleeting, _FLEETING * rate, end))
            group.create_task(self.probe(many, end))
            group.create_task(self.act_on(many, end))
            group.create_task(self.book(pets, _ORDINARY * rate, end))
        self._chapter.wrong += self.wrong + self.buyers.wrong + self.owners.wrong

    # -- before --------------------------------------------------------------------------------------------

    async def open_sale(self, name: str, stock: int, pay_within: int) -> str:
        """Open for long before and after, so that a clock that is wrong changes nothing."""
        now = datetime.now(UTC)
        sale = await self._insist("/v1/sales", self._credentials["admin"], {
            "product": f"{self._chapter.name} {name}", "stock": stock, "price_cents": 4900,
            "per_customer_limit": 1, "opens_at": (now - timedelta(days=1)).isoformat(),
            "closes_at": (now + timedelta(days=1)).isoformat(), "pay_within_seconds": pay_within,
        }, name)  # fmt: skip
        self._chapter.sales.append(sale["sale_id"])
        self._chapter.stocks[sale["sale_id"]] = stock
        return str(sale["sale_id"])

    async def prepare(self) -> list[tuple[str, bytes]]:
        """Customers of ordinary orders, each with the body of one."""
        _, package = await self._crowd.place(self._insist, self._credentials["admin"])
        found = []
        for number in range(_PETS):
            customer = f"{self._chapter.customers}owner-{number}"
            pet = await self._insist(
                "/v1/pets", self._credentials["service"], {"name": "Momo", "species": "dog"}, f"pet-{number}",
                customer=customer,
            )  # fmt: skip
            found.append((customer, booking(pet["pet_id"], package)))
        return found

    async def _insist(
        self, path: str, key: str, body: dict[str, Any], name: str, **more: Any
    ) -> dict[str, Any]:
        """Until it is there: what is in the way passes."""
        while True:
            try:
                return await post(
                    self._credentials["url"], path, key, body,
                    idempotency_key=f"{self._chapter.name}-{name}", **more,
                )  # fmt: skip
            except PeakclipError:
                await asyncio.sleep(_TRY_AGAIN_SECONDS)

    # -- sales ---------------------------------------------------------------------------------------------

    async def shop(self, sale: str) -> None:
        names = f"{self._chapter.customers}shop"
        listeners = [f"{names}-{number}" for number in range(_LISTENERS)]
        while True:
            try:
                await register(self._crowd.system, self._crowd.receiver, listeners)
                break
            except PeakclipError:
                await asyncio.sleep(_TRY_AGAIN_SECONDS)
        self._chapter.listeners += listeners
        shop = Shop(
            self._credentials["url"], self._credentials["service"], sale, _STOCK, self._chance,
            history=self._chapter.history, names=names,
        )  # fmt: skip
        # Faults go on, and units of a reservation without an answer are away for half a minute: it may take longer.
        with contextlib.suppress(AssertionError):
            await shop.run(_SHOPPERS, self._crowd.patience)
        if shop.all_paid:
            self._chapter.kept_trying.append(sale)
        self._chapter.wrong += shop.wrong
        silent = Counter(
            {cause: n for cause, n in shop.answers.items() if cause == "503" or cause[0].isupper()}
        )
        self._crowd.told.wave(len(shop.accepted), 0, silent.total(), silent)
        self._crowd.told.acted(Kind.PAY, len(shop.paid))
        self._crowd.told.acted(Kind.CANCEL, shop.answers["cancel: 200"])

    async def buy(self, sale: str, rate: float, end: float, bursts: float = 0.0) -> None:
        async with asyncio.TaskGroup() as group:
            while not self._crowd.ended(end):
                if not self._crowd.held():
                    at_once = self._chance.random() < bursts
                    await self._crowd.waves.acquire()
                    group.create_task(self._wave(sale, rate, at_once=at_once))
                await self._crowd.step()

    async def _wave(self, sale: str, rate: float, *, at_once: bool) -> None:
        try:
            answers = await self.buyers.wave(
                sale, max(1, round(rate * STEP_SECONDS)), rate=None if at_once else rate, connections=48,
                again=_AGAIN, deadline=_DEADLINE,
            )  # fmt: skip
            now = len(self.buyers.accepted)
            new, self._told_accepted = now - self._told_accepted, now
            self._tell(self.buyers, new, answers["accepted"])
        finally:
            self._crowd.waves.release()

    async def probe(self, sale: str, end: float) -> None:
        """A single order now and then, by which the time is taken that it needs."""
        async with asyncio.TaskGroup() as group:
            while not self._crowd.ended(end):
                group.create_task(self._probe(sale))
                await asyncio.sleep(_PROBE_SECONDS)

    async def _probe(self, sale: str) -> None:
        url, service = self._credentials["url"], self._credentials["service"]
        buyer = Buyers(
            url, service, self._chance, self._chapter.history, names=f"{self._chapter.name}-probe-"
        )
        sent_at = time.time()
        await buyer.wave(sale, 1, connections=1, again=0.0, deadline=_DEADLINE)
        self.wrong += buyer.wrong
        for order_id in buyer.accepted:
            self._crowd.told.probe(order_id, sent_at)
        self._crowd.told.wave(len(buyer.accepted), 0, buyer.retries, buyer.causes)

    def _tell(self, whom: Buyers | Owners, new: int, answers: int) -> None:
        retries, causes = self._told.get(type(whom), (0, Counter()))
        self._told[type(whom)] = whom.retries, Counter(whom.causes)
        self._crowd.told.wave(new, answers, whom.retries - retries, whom.causes - causes)

    # -- afterwards ----------------------------------------------------------------------------------------

    async def act_on(self, sale: str, end: float) -> None:
        """A step after they were told of them, or later."""
        seen = 0
        async with asyncio.TaskGroup() as group:
            while not self._crowd.ended(end):
                await self._crowd.step()
                known = self.buyers.known.get(sale, [])
                new, seen = known[seen:], len(known)
                chosen = self._chance.sample(new, round(_ACTED_ON * len(new)))
                if wishes := [wish for request in chosen for wish in self._wishes(request)]:
                    group.create_task(self._ask_later(wishes))

    def _wishes(self, request: Request) -> list[Wish]:
        kinds = self._chance.choices([kinds for kinds, _ in _ACTS], [weight for _, weight in _ACTS])[0]
        return [
            Wish(kind, request.customer, f"{request.order_id}-{kind}-{n}", request.order_id)
            for n, kind in enumerate(kinds)
        ]

    async def _ask_later(self, wishes: list[Wish]) -> None:
        await self._crowd.step()
        await self._ask(wishes)

    async def _ask(self, wishes: list[Wish]) -> list[bool]:
        granted = await self.owners.ask(wishes, len(wishes) / STEP_SECONDS, 8)
        new = sum(granted) if wishes[0].kind is Kind.ORDER else 0
        self._tell(self.owners, new, new)
        for wish, yes in zip(wishes, granted, strict=True):
            if yes:
                self._crowd.told.acted(wish.kind, 1)
        return granted

    async def book(self, pets: list[tuple[str, bytes]], rate: float, end: float) -> None:
        number = 0
        async with asyncio.TaskGroup() as group:
            while not self._crowd.ended(end):
                if not self._crowd.held():
                    count = max(1, round(rate * STEP_SECONDS))
                    group.create_task(self._walk([self._new_order(pets, number + n) for n in range(count)]))
                    number += count
                await self._crowd.step()

    def _new_order(self, pets: list[tuple[str, bytes]], number: int) -> Wish:
        customer, body = self._chance.choice(pets)
        key = f"{self._chapter.name}-ordinary-{number}"
        return Wish(Kind.ORDER, customer, key, body=body, later=self._chance.random() < 0.5)

    async def _walk(self, orders: list[Wish]) -> None:
        """Some are paid, some cancelled; some go all the way to their end."""
        placed = await self._ask(orders)
        known = [wish for wish, yes in zip(orders, placed, strict=True) if yes]
        provider, _ = await self._crowd.place(self._insist, self._credentials["admin"])
        walking = self._chance.sample(known, len(known) // 3)
        others = [wish for wish in known if wish not in walking]
        if settled := others[: len(others) // 2]:
            kinds = self._chance.choices((Kind.PAY, Kind.CANCEL), (2, 1), k=len(settled))
            await self._ask([self._then(wish, kind) for wish, kind in zip(settled, kinds, strict=True)])
        for kind in _WALK:
            if walking:
                body = b'{"provider_id":"%b"}' % provider.encode() if kind is Kind.ACCEPT else b"{}"
                done = await self._ask([self._then(wish, kind, body) for wish in walking])
                walking = [wish for wish, yes in zip(walking, done, strict=True) if yes]

    def _then(self, wish: Wish, kind: Kind, body: bytes = b"{}") -> Wish:
        return Wish(kind, wish.customer, f"{wish.named}-{kind}", wish.named, body)
