"""PURE. What a run consists of, drawn from its seed: who is there, who buys, and what befalls whom when."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Final, Literal

Mode = Literal["safety", "liveness"]
PLANS: Final = (
    ("never", 4), ("at once", 6), ("at the deadline", 3), ("twice", 2), ("pay and cancel", 2), ("cancel", 2),
    ("cancel, then pay", 2),
)  # fmt: skip
LEAST_SAFETY_SECONDS: Final = 4.0


@dataclass(frozen=True, slots=True)
class Sale:
    key: str
    stock: int
    limit: int
    pay_within: int


@dataclass(frozen=True, slots=True)
class Buyer:
    name: str
    sale: int
    comes_at: float  # seconds after the opening
    quantity: int
    keys: int  # purchases, one after the other
    again: int  # attempts beyond the first with a key that was answered
    plan: str
    hurry: float  # seconds until the next attempt
    twin: bool = False  # every purchase is sent twice at the same time


@dataclass(frozen=True, slots=True)
class Fault:
    at: float
    kind: str
    target: str
    seconds: float  # until it is over
    step: tuple[str, str, str, int] | None = None  # not at a time, but at the n-th such step, to who makes it


@dataclass(frozen=True, slots=True)
class Weather:
    """What befalls requests for a while, on both ways; chances of one in each."""

    lost: float = 0.0
    cut: float = 0.0
    spikes: float = 0.0
    spike_seconds: float = 0.05
    database: float = 0.0  # cut, swallowed or terminated
    step_seconds: float = 0.0  # of statements
    refused: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    mode: Mode
    seconds: float  # of load and faults
    sales: tuple[Sale, ...]
    buyers: tuple[Buyer, ...]
    rate: float
    apis: int
    workers: int  # of the pool `orders`
    effects: bool
    operator: bool
    express: float  # share of purchases that go the short way
    weather: tuple[tuple[float, Weather], ...]
    faults: tuple[Fault, ...]
    skew: float  # seconds by which clocks of processes differ at most
    late: float  # seconds by which processes wake up late, on average
    poison: tuple[float, ...]  # when messages come that nobody can work on
    changes: tuple[tuple[float, int, int], ...]  # when the stock of which sale is to be how much
    looks: bool  # processes look for their streams when they begin; they are always there
    planted: frozenset[str] = field(default_factory=frozenset)


_TARGETED: Final = (
    ("kill", 8), ("stop", 3), ("freeze", 4), ("cut", 4), ("nats crash", 2), ("nats stop", 1), ("postgres crash", 2),
    ("terminate", 2), ("hole", 4),
)  # fmt: skip
# What is asked of a server, by whom (anybody), by the first letters: where something may be half done.
STEPS: Final = (
    *(2 * (("nats", "", "stock."), ("nats", "", "intake."))), ("nats", "", "stock."), ("nats", "", "intake."),
    ("nats", "", "order."), ("nats", "", "$JS.ACK.INTAKE"), ("nats", "", "$JS.ACK.SECKILL"),
    ("nats", "", "$JS.ACK.STOCK"), ("nats", "", "$JS.ACK.EXPIRY"), ("nats", "", "$JS.ACK.EVENTS"),
    ("nats", "", "line.released"), ("postgres", "", "drain_seckill"), ("postgres", "", "claim_outbox"),
    ("postgres", "", "delete_outbox"), ("postgres", "", "commit"), ("postgres", "", "pay_order"),
    ("postgres", "", "transition_order"), ("postgres", "", "expire_orders"), ("postgres", "", "apply_effects"),
    ("postgres", "", "create_sale"),
)  # fmt: skip


def draw(seed: int, mode: Mode | None = None, planted: frozenset[str] = frozenset()) -> Plan:
    chance = random.Random(seed)
    mode = mode or ("safety" if seed % 3 == 0 else "liveness")
    seconds = chance.choice((1.0, 2.0, 4.0, 8.0))
    if (
        mode == "safety"
    ):  # it is judged then and there: the first orders have their rows after one second or two
        seconds = max(seconds, LEAST_SAFETY_SECONDS)
    sales = tuple(
        Sale(f"sale-{n}", chance.randrange(1, 9), chance.randrange(1, 4), chance.choice((1, 2, 3, 9)))
        for n in range(chance.choice((1, 1, 2)))
    )
    apis, workers = chance.choice((1, 1, 2)), chance.choice((1, 1, 2))
    effects, operator = chance.random() < 0.4, chance.random() < 0.2
    hosts = (
        [f"api-{n}" for n in range(apis)] + [f"orders-{n}" for n in range(workers)] + ["relay", "reaper-0"]
    )
    hosts += ["effects-0"] if effects else []
    hosts += ["operator"] if operator else []
    buyers = _buyers(chance, sales, seconds)
    if mode == "safety":  # of a sale with a limit of one all of them might want two
        buyers = (replace(buyers[0], quantity=1), *buyers[1:])
    return Plan(
        seed, mode, seconds, sales, buyers, chance.choice((20.0, 100.0, 500.0)), apis,
        workers, effects, operator, chance.choice((0.0, 0.5, 1.0)), _weather(chance, seconds),
        _faults(chance, hosts, seconds), chance.choice((0.0, 0.0, 0.3)), chance.choice((0.0, 0.0, 0.002)),
        tuple(chance.random() * seconds for _ in range(chance.choice((0, 0, 0, 1, 2)))),
        tuple(
            (chance.random() * seconds, chance.randrange(len(sales)), chance.randrange(0, 12))
            for _ in range(chance.choice((0, 0, 0, 1, 3)))
        ),
        chance.random() < 0.1, planted,
    )  # fmt: skip


def _buyers(chance: random.Random, sales: tuple[Sale, ...], seconds: float) -> tuple[Buyer, ...]:
    names, often = zip(*PLANS, strict=True)
    rush, people = chance.random() < 0.5, chance.choice((1, 2, 4, 12, 12))
    found = []
    for number in range(chance.choice((2, 4, 8, 16))):
        (plan,) = chance.choices(names, often)
        found.append(
            Buyer(
                f"c{number % people}", chance.randrange(len(sales)),
                chance.random() * (0.01 if rush else 0.6 * seconds), chance.choice((1, 1, 1, 2)),
                chance.choice((1, 1, 2)), chance.choice((0, 0, 1)), plan, chance.choice((0.05, 0.3, 1.0)),
                chance.random() < 0.15,
            )
        )  # fmt: skip
    return tuple(found)


def _weather(chance: random.Random, seconds: float) -> tuple[tuple[float, Weather], ...]:
    """Each from its moment on."""
    found = []
    for _ in range(chance.choice((1, 1, 2, 3))):
        severe = chance.choice((0.0, 0.0, 0.02, 0.1))
        kinds = [chance.random() < 0.5 for _ in range(5)]
        found.append(
            (
                chance.random() * seconds if found else 0.0,
                Weather(
                    lost=severe * kinds[0], cut=severe * kinds[1] / 2, spikes=0.05 * kinds[2],
                    spike_seconds=chance.choice((0.01, 0.05, 0.5)), database=severe * kinds[3],
                    step_seconds=chance.choice((0.0, 0.001, 0.02)) * kinds[4],
                    refused=chance.choice((0.0, 0.0, 0.2)) * kinds[3],
                ),
            )
        )  # fmt: skip
    return tuple(found)


def _faults(chance: random.Random, hosts: list[str], seconds: float) -> tuple[Fault, ...]:
    kinds, often = zip(*_TARGETED, strict=True)
    count = chance.choice((0, 1, 2, 3, 5, 8))
    found = []
    for _ in range(count):
        (kind,) = chance.choices(kinds, often)
        lasts = chance.choice((0.01, 0.3, 1.0, 3.0))
        if kind == "freeze":
            lasts = chance.choice((0.1, 1.0, 7.0, 14.0, 20.0, 25.0))
        if kind == "hole":
            lasts = chance.choice((0.3, 3.0, 7.0, 9.0))
        step = (*chance.choice(STEPS), chance.choice((1, 1, 2, 3, 5))) if chance.random() < 0.6 else None
        found.append(
            Fault(
                chance.random() * seconds, kind, chance.choice(hosts), lasts * (0.5 + chance.random()), step
            )
        )
    return tuple(sorted(found, key=lambda one: one.at))
