"""The business in the database, for tests of what comes after it: master data, orders and what is done with them.

Everything goes through the functions that the routes call, so that the outbox holds the real events.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
from fakes import ArrivedMessage
from support import TENANT, new_name

from peakclip import messages
from peakclip.jetstream import JetStream
from peakclip.store import query
from peakclip_worker.pools.effects import ApplyEffects

BERLIN = (52.520008, 13.404954)


@dataclass(frozen=True)
class Happened:
    """An event as the outbox holds it."""

    event_id: str
    subject: str
    payload: str

    @property
    def body(self) -> dict[str, Any]:
        return dict(msgspec.json.decode(self.payload))

    def as_input(self, attempts: int = 1) -> dict[str, Any]:
        return {
            "event_id": self.event_id,
            "subject": self.subject,
            "attempts": attempts,
            "data": msgspec.Raw(self.payload.encode()),
        }


async def add_provider(
    database: Any,
    provider_id: str,
    *,
    at: tuple[float, float] = BERLIN,
    radius_m: int = 5_000,
    tenant: str = TENANT,
    **columns: Any,
) -> str:
    values = {
        "provider_id": provider_id,
        "tenant": tenant,
        "name": provider_id,
        "latitude": at[0],
        "longitude": at[1],
        "radius_m": radius_m,
        "fingerprint": "f",
        **columns,
    }
    await _insert(database, "providers", values)
    return provider_id


async def add_customer(database: Any, customer_id: str, *, tenant: str = TENANT, **columns: Any) -> str:
    values = {
        "customer_id": customer_id,
        "tenant": tenant,
        "name": customer_id,
        "fingerprint": customer_id,  # names the key of the request, and a key is used once
        **columns,
    }
    await _insert(database, "customers", values)
    return customer_id


async def _insert(database: Any, table: str, values: dict[str, Any]) -> None:
    places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    await database.execute(f"insert into {table} ({', '.join(values)}) values ({places})", *values.values())


async def new_order(
    database: Any,
    customer: str = "own-1",
    *,
    at: tuple[float, float] | None = BERLIN,
    tenant: str = TENANT,
    price_cents: int = 4_900,
) -> str:
    """An ordinary order, `created`; with a pet and a package of its own. Returns its id."""
    pet, package = new_name("pet-"), new_name("pkg-")
    await database.execute(
        "insert into pets (pet_id, tenant, customer_id, name, species, fingerprint)"
        " values ($1, $2, $3, 'Momo', 'dog', 'f')",
        pet, tenant, customer,
    )  # fmt: skip
    await database.execute(
        "insert into service_packages (service_package_id, tenant, name, price_cents, duration_minutes, fingerprint)"
        " values ($1, $2, 'Walk', $3, 60, 'f')",
        package, tenant, price_cents,
    )  # fmt: skip
    order_id = messages.order_id(tenant, new_name("ordinary-"))
    order = {
        "order_id": order_id,
        "tenant": tenant,
        "customer_id": customer,
        "pet_id": pet,
        "service_package_id": package,
        "service_date": "2026-12-24T10:00:00Z",
        "fingerprint": "f",
        "accepted_at": datetime.now(UTC).timestamp(),
        **({"latitude": at[0], "longitude": at[1]} if at else {}),
    }
    body = msgspec.json.encode([order]).decode()
    (row,) = await database.fetch(query("create_orders"), body, None, False)
    assert row["outcome"] == "created", row
    return order_id


async def act(
    database: Any,
    order_id: str,
    *actions: str,
    provider: str = "p-1",
    reason: str = "cancelled-by-customer",
    tenant: str = TENANT,
) -> None:
    """Accept, start, complete, cancel or pay, one after another; each must succeed."""
    for action in actions:
        if action == "pay":
            outcome = await database.fetchval(
                "select outcome from pay_order($1, $2, null, $3, null)", tenant, order_id, uuid.uuid4()
            )
        else:
            outcome = await database.fetchval(
                "select outcome from transition_order($1, $2, $3, null, $4, $5, null, null)",
                tenant, order_id, action, None if action == "cancel" else provider, reason,
            )  # fmt: skip
        assert outcome == "done", (action, outcome)


async def review(
    database: Any, order_id: str, rating: int, customer: str = "own-1", *, reply: str | None = None
) -> str:
    """A review of a completed order, perhaps with the provider's reply. Returns its id."""
    review_id = new_name("review-")
    outcome = await database.fetchval(
        "select outcome from create_review($1, $2, $3, $4, $5, 'comment', 'f', null)",
        review_id, TENANT, order_id, customer, rating,
    )  # fmt: skip
    assert outcome == "created", outcome
    if reply:
        outcome = await database.fetchval(
            "select outcome from reply_to_review($1, $2, null, $3, null)", review_id, TENANT, reply
        )
        assert outcome == "done", outcome
    return review_id


async def happened(database: Any) -> list[Happened]:
    """Events that nobody has published yet, oldest first."""
    rows = await database.fetch(
        "select message_id, subject, payload from outbox where subject ~ '^(order|review)[.]' order by id"
    )
    return [Happened(row["message_id"], row["subject"], row["payload"]) for row in rows]


async def apply(database: Any, events: Sequence[Happened], attempts: int = 1) -> dict[str, Any]:
    """What a worker of the pool `effects` does in the database."""
    body = msgspec.json.encode([event.as_input(attempts) for event in events]).decode()
    return dict(msgspec.json.decode(await database.fetchval(query("apply_effects"), body)))


async def work(js: JetStream, database: Any) -> list[Happened]:
    """What relay and a worker do with what has happened: applied, told, and forgotten by the outbox."""
    events = await happened(database)
    pool = ApplyEffects(database, js)
    messages_ = [
        ArrivedMessage(one.subject, one.payload.encode(), {"Nats-Msg-Id": one.event_id}) for one in events
    ]
    items = [(pool.read(cast("Any", message)), cast("Any", message)) for message in messages_]
    await pool.commit(items, 0.0)
    await database.execute(
        "delete from outbox where message_id = any($1)", [event.event_id for event in events]
    )
    return events


async def effects_of(database: Any) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that effects have written, without when and in which order."""
    wanted = {
        "effects": "select event_id, effect from effects",
        "history": "select order_id::text, version, tenant, event, status, data::text from order_history",
        "figures": "select * from daily_figures",
        "tickets": "select ticket_id, tenant, review_id, order_id::text, rating, status from tickets",
        "told": "select tenant, audience, user_id, event_id, kind, title, body, data::text from notifications",
        "inboxes": "select * from inboxes",
        "deliveries": "select delivery_id::text, user_id, channel, address, kind from deliveries",
        "providers": "select provider_id, rating_count, rating_sum, completed_orders from providers",
    }
    return {name: sorted(map(tuple, await database.fetch(text))) for name, text in wanted.items()}
