"""The whole API, explored by schemathesis against the description: what is found is a defect of one of the two.

The system is real: servers, an API on a socket, the relay and a worker of every pool, so that an order goes all the
way. The explorer sits in a thread beside the loop that serves.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from explorer import ALONE, IN_SEQUENCE, Findings, Way, explore, implemented
from support import Api, api_process, store_keys
from visitor import furnish

from peakclip.jetstream import JetStream
from peakclip.limiter.pace import set_pace
from peakclip.service import Service
from peakclip_worker import main, relay_main
from peakclip_worker.settings import RelaySettings, WorkerSettings

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(240),
    # Of a made-up request that is long: nobody's mistake.
    pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning"),
]

# How far sequences get, of those routes that there are.
REACHED = {
    "POST /v1/sales": 201,
    "GET /v1/sales/{sale_id}": 200,
    "POST /v1/sales/{sale_id}/orders": 202,
    "GET /v1/orders/{order_id}": 200,
    "POST /v1/pets": 201,
    "POST /v1/service-packages": 201,
    "POST /v1/orders": 201,
    "POST /v1/orders/{order_id}/accept": 200,
    "POST /v1/orders/{order_id}/start": 200,
    "POST /v1/orders/{order_id}/complete": 200,
    "POST /v1/orders/{order_id}/cancel": 200,
    "POST /v1/orders/{order_id}/pay": 200,
    "POST /v1/reviews": 201,
}


@contextlib.asynccontextmanager
async def system(nats_url: str, database_url: str) -> AsyncIterator[Api]:
    """An API, the relay and a worker of each pool, in this process."""
    async with await JetStream.connect(nats_url, name="pace") as js:
        for pool in main.POOLS:
            await set_pace(js, pool, limit_per_second=1_000)
    service = Service()
    where: dict[str, Any] = {"nats_url": nats_url, "database_url": database_url}
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(relay_main.relay(RelaySettings(**where), service))
        for pool in main.POOLS:
            tasks.create_task(main.work(WorkerSettings(pool=pool, **where), service))
        async with api_process(nats_url, database_url) as api:
            yield api
        service.stopping.set()
        await service.cancel_side_tasks()
    assert service.failure is None


async def explored(api: Api, way: Way) -> Findings:
    return await asyncio.to_thread(explore, str(api.client.make_url("/")), implemented(api.app), way)


def report(findings: Findings) -> str:
    return "\n\n".join(list(findings.failures.values())[:20])


async def test_every_operation_alone(
    js: JetStream, database: Any, nats_url: str, fresh_database_url: str
) -> None:
    """Examples, bounds of every field, what is missing or too much, and random input, right and wrong."""
    await store_keys(database)
    await furnish(database)
    async with system(nats_url, fresh_database_url) as api:
        findings = await explored(api, ALONE)
    assert not findings.failures, report(findings)
    routes = {route for route in implemented(api.app) if not route.startswith("HEAD ")}
    assert routes - findings.answers.keys() == set(), "never called"


async def test_sequences_of_operations(
    js: JetStream, database: Any, nats_url: str, fresh_database_url: str
) -> None:
    """Along the links: what one operation answers is what the next one asks with."""
    await store_keys(database)
    await furnish(database)
    async with system(nats_url, fresh_database_url) as api:
        findings = await explored(api, IN_SEQUENCE)
    assert not findings.failures, report(findings)
    routes = implemented(api.app)
    missed = [
        route for route, status in REACHED.items() if route in routes and not findings.answers[route][status]
    ]
    assert missed == [], {route: findings.answers[route] for route in missed}
