"""A worker of the pool `orders` whose process ends, at once and for no reason that it tells, when it meets poison.

    python ending_worker.py NATS_URL DATABASE_URL

What it begins and what it finishes is in the tables `begun` and `finished` (text).
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Any

from peakclip import store, topology
from peakclip.jetstream import InMessage, JetStream
from peakclip.limiter.limiter import Limiter
from peakclip.service import Service
from peakclip_worker.batch import BatchPool
from peakclip_worker.consumer import Drain

POISON = b"poison"
EXIT = 9


class Ends:
    def __init__(self, database: Any) -> None:
        self._database = database

    def read(self, message: InMessage) -> bytes:
        return message.payload

    async def commit(self, items: Sequence[tuple[bytes, InMessage]], started_at: float) -> None:
        names = [payload.decode() for payload, _ in items]
        await self._database.execute("insert into begun select unnest($1::text[])", names)
        if any(payload.startswith(POISON) for payload, _ in items):
            os._exit(EXIT)
        await self._database.execute("insert into finished select unnest($1::text[])", names)


async def main(nats_url: str, database_url: str) -> None:
    service = Service()
    async with await JetStream.connect(nats_url, name="ending") as js:
        database = await store.connect(database_url, max_size=2)
        limiter = Limiter(js, topology.ORDERS_POOL)
        service.spawn("limiter", limiter.run())
        pool = BatchPool(topology.ORDERS_POOL, js, database, Ends(database))
        pull = js.pull(topology.SECKILL, topology.ORDERS_POOL)
        await Drain(js, pull, limiter, pool, topology.ORDERS_POOL).run(service)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
