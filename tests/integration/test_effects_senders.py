"""From an event to the far side: a worker of the pool `effects` writes deliveries and sends them."""

from __future__ import annotations

import asyncio
from typing import Any

import pydantic
import pytest
from business import act, add_customer, add_provider, new_order
from pools import relay
from receivers import MASTER_KEY, mail_receiver, webhook_receiver
from support import until

from peakclip import topology
from peakclip.jetstream import JetStream
from peakclip.limiter.pace import set_pace
from peakclip.service import Service
from peakclip_worker.channels.signature import secret_text
from peakclip_worker.main import work
from peakclip_worker.settings import WorkerSettings

pytestmark = pytest.mark.integration


async def all_sent(database: Any) -> bool:
    states = await database.fetch("select state, count(*) from deliveries group by 1")
    owed = await database.fetchval("select count(*) from outbox")
    return owed == 0 and [row["state"] for row in states] == ["sent"] and states[0]["count"] >= 4


async def test_a_worker_sends_what_its_events_cause(
    js: JetStream, database: Any, nats_url: str, fresh_database_url: str
) -> None:
    await set_pace(js, topology.EFFECTS_POOL, limit_per_second=1_000)
    async with webhook_receiver() as hooks, mail_receiver() as mail:
        settings = WorkerSettings(
            pool=topology.EFFECTS_POOL,
            nats_url=nats_url,
            database_url=fresh_database_url,
            webhook_secret=pydantic.SecretStr(secret_text(MASTER_KEY)),
            webhook_allow_private=True,
            smtp_url=pydantic.SecretStr(f"smtp://127.0.0.1:{mail.port}"),
            smtp_from="Shop <orders@shop.example>",
        )
        await add_provider(database, "p-1", webhook_url=f"{hooks.url}/provider")
        await add_customer(database, "c-1", email="c-1@mail.example", webhook_url=f"{hooks.url}/customer")
        order = await new_order(database, "c-1")
        await act(database, order, "accept", "start", "complete", provider="p-1")
        service = Service()
        task = asyncio.create_task(work(settings, service))
        async with relay(js, database, ["outbox"]):
            await until(lambda: all_sent(database), 30)
        service.stopping.set()
        await asyncio.wait_for(task, 10)
        await service.cancel_side_tasks()
    rows = await database.fetch("select delivery_id::text, channel, user_id, kind from deliveries")
    sent = {row["delivery_id"] for row in rows if row["channel"] == "webhook"}
    assert sorted(call.key for call in hooks.calls) == sorted(sent)
    assert all(call.verified for call in hooks.calls)
    assert {call.event["subject"] for call in hooks.calls if call.path == "/provider"} == {"p-1"}
    assert {call.event["data"]["data"]["order_id"] for call in hooks.calls} == {order}
    letters = {f"<{row['delivery_id']}@shop.example>" for row in rows if row["channel"] == "email"}
    assert sorted(one["Message-ID"] for one in mail.mails) == sorted(letters)
    assert letters
    assert set(mail.recipients) == {"c-1@mail.example"}
