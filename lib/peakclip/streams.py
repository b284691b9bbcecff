"""Makes the streams and consumers of the topology, and waits for them where others make them.

`peakclip migrate` and `peakclip up` make them (role `setup`); every other process waits. The tickets alone are made by
whoever misses them: they live in memory, and a server that is alone forgets them when it restarts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import structlog

from peakclip.errors import PeakclipError, RefusedError
from peakclip.grants import Role
from peakclip.jetstream import CONSUMER_NOT_FOUND, NAME_IN_USE, STREAM_NOT_FOUND, JetStream
from peakclip.topology import CONSUMERS, STREAMS, TICKETS

log = structlog.get_logger()

_LONGEST_PAUSE_SECONDS: Final = 2.0


async def ensure(js: JetStream, replicas: int | None = None) -> None:
    """Creates what is missing and updates what differs. Safe to run from several processes at once.

    Without `replicas` a stream keeps the number of copies that it has, and a new one gets one.
    """
    for name in STREAMS:
        await js.ensure_stream(stream_config(name, replicas))
    for (stream, name), config in CONSUMERS.items():
        defaults = {
            "durable_name": name,
            "ack_policy": "explicit",
            "deliver_policy": "all",
            "max_deliver": -1,
        }
        await js.ensure_consumer(stream, {**defaults, **config})


def stream_config(name: str, replicas: int | None = None) -> dict[str, Any]:
    config: dict[str, Any] = {"name": name, **STREAMS[name]}
    return config if replicas is None else {**config, "num_replicas": replicas}


async def ensure_tickets(js: JetStream) -> None:
    """Once more, where a server has forgotten them: in a cluster the stream comes back by itself."""
    try:
        await js.create_stream(stream_config(TICKETS))
    except RefusedError as exc:
        if exc.code != NAME_IN_USE:
            raise


async def until_there(js: JetStream, role: Role) -> None:
    """Returns when what this role needs is there, as this version knows it; says what is missing meanwhile."""
    told: list[str] = []
    pause = 0.1
    while True:
        try:
            gaps = await missing(js, role.streams, role.consumers)
        except PeakclipError as exc:
            gaps = [str(exc)]
        if not gaps:
            return
        if gaps != told:
            log.warning("streams_waiting", missing=gaps, made_by="peakclip migrate")
            told = gaps
        await asyncio.sleep(pause)
        pause = min(_LONGEST_PAUSE_SECONDS, pause * 2)


async def missing(
    js: JetStream, streams: Sequence[str], consumers: Sequence[tuple[str, str]] = ()
) -> list[str]:
    """What does not exist, and streams of an older version that lack a subject."""
    gaps = [name for name in streams if not await _is_there(js, name)]
    for stream, consumer in consumers:
        try:
            await js.consumer_state(stream, consumer)
        except RefusedError as exc:
            if exc.code not in (STREAM_NOT_FOUND, CONSUMER_NOT_FOUND):
                raise
            gaps.append(f"{stream}/{consumer}")
    return gaps


async def _is_there(js: JetStream, stream: str) -> bool:
    try:
        config = (await js.stream_state(stream)).config
    except RefusedError as exc:
        if exc.code != STREAM_NOT_FOUND:
            raise
        return False
    return set(STREAMS[stream]["subjects"]) <= set(config["subjects"])
