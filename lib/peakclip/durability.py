"""Whether the servers sync to disk what they acknowledge: read back from their own reports, never assumed."""

from __future__ import annotations

from typing import Any, Final

from peakclip import topology
from peakclip.errors import PeakclipError
from peakclip.jetstream import JetStream
from peakclip.store import DATABASE_AWAY

# All of these wait for the local disk; only `off` does not.
COMMITS_TO_DISK: Final = frozenset({"on", "local", "remote_write", "remote_apply"})
STREAMS: Final = (topology.INTAKE, topology.SECKILL, topology.STOCK)  # an order and its unit are in these


async def nats_is_durable(js: JetStream) -> bool | None:
    """None: the server does not tell."""
    try:
        return await js.is_durable(STREAMS)
    except PeakclipError:
        return None


async def postgres_is_durable(database: Any) -> bool | None:
    """None: the server does not tell."""
    try:
        commit = await database.fetchval("show synchronous_commit")
        return commit in COMMITS_TO_DISK and await database.fetchval("show fsync") == "on"
    except DATABASE_AWAY:
        return None
