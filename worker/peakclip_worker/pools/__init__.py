"""What each pool does with its messages. One module per pool; none knows the limiter or JetStream's protocol.

`POOLS` is the list of them: whoever supplies workers supplies them for these. A new pool is a function that makes
it and a line in `POOLS`; its module is imported by workers of that pool only, or once by whoever forks workers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from peakclip import topology

# Nobody waits for an expiry: ten transactions a second instead of a hundred leave disk and database to those who do.
REAPER_GATHER_SECONDS: Final = 0.1

if TYPE_CHECKING:
    from peakclip.jetstream import JetStream
    from peakclip_worker.batch import Work
    from peakclip_worker.consumer import Pool
    from peakclip_worker.settings import WorkerSettings


@dataclass(frozen=True, slots=True)
class Given:
    """What a worker has when it makes its pool."""

    database: Any  # a pool of connections
    js: JetStream
    settings: WorkerSettings
    wake_senders: Callable[[], None] = lambda: None  # there may be deliveries
    clock: Callable[[], float] = time.time  # epoch seconds


def _orders(given: Given) -> Pool:
    from peakclip_worker.pools.orders import DrainOrders

    return _batches(topology.ORDERS_POOL, given, DrainOrders(given.database, given.settings.work_ms))


def _effects(given: Given) -> Pool:
    from peakclip_worker.pools.effects import ApplyEffects

    return _batches(topology.EFFECTS_POOL, given, ApplyEffects(given.database, given.js, given.wake_senders))


def _reaper(given: Given) -> Pool:
    from peakclip_worker.pools.reaper import ExpireOrders

    return _batches(topology.REAPER_POOL, given, ExpireOrders(given.database), REAPER_GATHER_SECONDS)


def _batches(name: str, given: Given, work: Work[Any], gather_seconds: float = 0.0) -> Pool:
    from peakclip_worker.batch import BatchPool

    return BatchPool(name, given.js, given.database, work, gather_seconds=gather_seconds, clock=given.clock)


POOLS: Final[Mapping[str, Callable[[Given], Pool]]] = {
    topology.ORDERS_POOL: _orders,
    topology.EFFECTS_POOL: _effects,
    topology.REAPER_POOL: _reaper,
}
