"""Everybody who takes something from NATS, and when each of them went on after its server was back.

The server itself is asked, so a consumer needs no work to be seen: whoever pulls has a pull waiting there or was given
something, whoever follows has a consumer that is bound and has read everything. Workers share one consumer, so each of
them has to tell of a start besides: one that is silent would be covered by the others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import msgspec
from faults.system import System

from peakclip import topology
from peakclip.errors import PeakclipError
from peakclip.jetstream import ConsumerState
from peakclip.messages import WorkerTelemetry

SILENT_SECONDS: Final = 15.0  # then it does not come any more
_LOOK_SECONDS: Final = 0.05
_ANSWER_SECONDS: Final = 2.0
FOLLOWED: Final = (topology.INTAKE, topology.RELEASES)


@dataclass
class Restart:
    """What was seen after one: seconds from the server's return until each went on; None: it did not."""

    how: str
    seconds: dict[str, float | None] = field(default_factory=dict)
    late_seconds: float = 0.0  # by how much who watched was late at worst, on a machine with much else to do

    @property
    def silent(self) -> list[str]:
        return sorted(name for name, found in self.seconds.items() if found is None)

    def stalls(self, longest: float) -> dict[str, float]:
        return {
            name: round(found, 2)
            for name, found in self.seconds.items()
            if found is not None and found > longest
        }


# Whether one goes on, or since when, in epoch seconds; asked with the moment of the server's return.
_Look = Callable[[float], Awaitable[bool | float | None]]


class Consumers:
    """Of a whole stack. `api_processes` follow, each with a consumer of its own; so many `workers` drain, all the time
    the same ones."""

    def __init__(
        self, system: System, session: aiohttp.ClientSession, api_processes: int, workers: int
    ) -> None:
        self._system = system
        self._starts: dict[int, list[float]] = {}  # of each worker by its pid: epoch seconds
        self._session = session
        self._api_processes = api_processes
        self._first: dict[topology.Consumer, ConsumerState] = {}
        self._looks: dict[str, _Look] = {
            **{f"{stream}/{name}": self._pull(stream, name) for stream, name in topology.CONSUMERS},
            **{f"{stream}/followers": self._follow(stream) for stream in FOLLOWED},
            **{f"worker {number + 1}": self._worker(number) for number in range(workers)},
            "controller": self._controller,
            "board": self._board,
        }

    async def listen(self) -> None:
        async def word(message: Any) -> None:
            told = msgspec.json.decode(message.data, type=WorkerTelemetry)
            self._starts.setdefault(told.pid, []).extend(at for at, _ in told.starts)

        await self._system.js.subscribe_core(f"{topology.WORKER_TELEMETRY}.{topology.ORDERS_POOL}.*", word)

    async def after(self, how: str, back: float, patience_seconds: float = SILENT_SECONDS) -> Restart:
        """Watches until all have gone on, or for so long. `back`: epoch seconds."""
        found = Restart(how, dict.fromkeys(self._looks))
        self._first.clear()
        while found.silent and time.time() - back < patience_seconds:
            names = found.silent
            seen = await asyncio.gather(*(self._look(name, back) for name in names))
            now = time.time()
            found.seconds.update(
                {
                    name: (now if since is True else since) - back
                    for name, since in zip(names, seen, strict=True)
                    if since
                }
            )
            asked = time.monotonic()
            await asyncio.sleep(_LOOK_SECONDS)
            found.late_seconds = max(found.late_seconds, time.monotonic() - asked - _LOOK_SECONDS)
        return found

    async def _look(self, name: str, back: float) -> bool | float | None:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await self._looks[name](back)
        except (PeakclipError, aiohttp.ClientError, TimeoutError):
            return False

    def _pull(self, stream: str, name: str) -> _Look:
        async def look(_: float) -> bool:
            state = await self._system.js.consumer_state(stream, name)
            first = self._first.setdefault((stream, name), state)
            return (
                state.waiting > 0
                or state.delivered_seq > first.delivered_seq
                or state.ack_floor_seq > first.ack_floor_seq
            )

        return look

    def _worker(self, number: int) -> _Look:
        async def look(back: float) -> float | None:
            """Its first start since: told a second later at most."""
            mine = [self._starts[pid] for pid in sorted(self._starts)][number : number + 1]
            return next((at for starts in mine for at in starts if at > back), None)

        return look

    def _follow(self, stream: str) -> _Look:
        async def look(_: float) -> bool:
            reply = await self._system.js.request(f"$JS.API.CONSUMER.LIST.{stream}", b"{}")
            found: list[Mapping[str, Any]] = msgspec.json.decode(reply.data)["consumers"] or []
            reading = [one for one in found if one.get("push_bound") and not one["num_pending"]]
            return len(reading) >= self._api_processes

        return look

    async def _controller(self, back: float) -> bool:
        return any(one.at > back for one in self._system.statuses[-5:])

    async def _board(self, back: float) -> bool:
        """An API process shows what the controller has said since."""
        asked = time.time()
        async with self._session.get("/v1/status") as answer:
            pool = (await answer.json())["pools"][topology.ORDERS_POOL]
        return bool(asked - pool["age_seconds"] > back)
