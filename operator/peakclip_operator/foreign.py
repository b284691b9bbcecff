"""A consumer that is not Peakclip's own: everything is read from its own numbers and done through its own settings.

Its workers are not asked to take tickets, so R is kept by how many messages they may have in hand (Little's law) and
by the server's own pause. Workers that do use the library's consumer speak of themselves; then R is theirs to keep.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import structlog

from peakclip.errors import RefusedError
from peakclip.jetstream import JetStream
from peakclip_operator.plan import Lag, Totals
from peakclip_operator.plan.foreign import Look, MostInHand, Worked
from peakclip_operator.ports import PaceReading, Telemetry, TelemetrySource, Workers
from peakclip_operator.resource_pace import NoBucketError, ResourcePace, WantedPace, as_if

log = structlog.get_logger()

_FOR_EVER: Final = timedelta(days=3650)  # a pause has an end on the server; people end this one
_ACK_WAIT_NANOSECONDS: Final = 30_000_000_000  # the server's own default
_MAX_ACK_PENDING: Final = 1000


@dataclass(slots=True)
class ForeignConsumer:
    """The newest look at it, shared by the ports of its pool. `workers` is how many run, as far as is known."""

    js: JetStream
    stream: str
    name: str
    look: Look | None = None
    config: Mapping[str, Any] | None = None
    redelivered: int | None = None
    paused: bool = False
    speaks: bool = False
    """Its workers use the library: they were heard."""

    async def read(self) -> Look:
        info = await self._ask("INFO")
        self.config = info["config"]
        self.paused = bool(info.get("paused"))
        self.redelivered = info.get("num_redelivered")
        self.look = Look(
            at=time.monotonic(),
            pending=info["num_pending"],
            in_flight=info["num_ack_pending"],
            delivered=info["delivered"]["consumer_seq"],
            floor_seq=info["ack_floor"]["stream_seq"],
        )
        return self.look

    async def bound(self, messages: int) -> None:
        """How many messages all its workers together may have in hand."""
        config = {**(self.config or {}), "max_ack_pending": messages}
        # `update`: a consumer that has just been deleted is not made anew.
        await self._ask("CREATE", {"stream_name": self.stream, "config": config, "action": "update"})
        log.info("max_ack_pending_set", consumer=self.name, max_ack_pending=messages)

    async def pause(self, paused: bool) -> None:
        until = (datetime.now(UTC) + _FOR_EVER).isoformat() if paused else "0001-01-01T00:00:00Z"
        await self._ask("PAUSE", {"pause_until": until})
        self.paused = paused
        log.info("consumer_paused" if paused else "consumer_resumed", consumer=self.name)

    @property
    def filters(self) -> list[str]:
        config = self.config or {}
        one = config.get("filter_subject")
        return [one] if one else list(config.get("filter_subjects") or [">"])

    async def _ask(self, call: str, body: object = None) -> dict[str, Any]:
        payload = b"" if body is None else msgspec.json.encode(body)
        reply = await self.js.request(f"$JS.API.CONSUMER.{call}.{self.stream}.{self.name}", payload)
        answer: dict[str, Any] = msgspec.json.decode(reply.data)
        if error := answer.get("error"):
            raise RefusedError(error.get("err_code", 0), error.get("description", "JetStream refused"))
        return answer


class ForeignLag:
    """A message that is delivered again counts as an arrival and as an attempt that ended, as with Peakclip's own."""

    def __init__(self, consumer: ForeignConsumer) -> None:
        self._consumer = consumer

    async def read(self) -> Lag:
        """Raises PeakclipError when JetStream does not answer or the consumer does not exist."""
        look = await self._consumer.read()
        return Lag(
            ready=look.pending,
            in_flight=look.in_flight,
            last_seq=look.arrived,
            finished_seq=look.finished,
            oldest_seconds=await self._oldest(look) if look.pending + look.in_flight else None,
            redelivered=self._consumer.redelivered,
            floor_seq=look.floor_seq,
        )

    async def _oldest(self, look: Look) -> float | None:
        js, stream = self._consumer.js, self._consumer.stream
        found = await asyncio.gather(
            *(js.message_from(stream, look.floor_seq + 1, subject) for subject in self._consumer.filters)
        )
        ages = [time.time() - message.at for message in found if message is not None]
        return max(0.0, *ages) if ages else None


class ForeignTelemetry:
    """What the workers say, and where they say nothing what the consumer's numbers say of them."""

    def __init__(
        self, consumer: ForeignConsumer, spoken: TelemetrySource, workers: Callable[[], Workers | None]
    ) -> None:
        self._consumer = consumer
        self._spoken = spoken
        self._workers = workers
        self._worked = Worked()

    async def read(self, now: float) -> Telemetry:
        heard = await self._spoken.read(now)
        if heard.workers or self._consumer.speaks:
            self._consumer.speaks = True
            return heard
        look, workers = self._consumer.look, self._workers()
        if look is not None and workers is not None:
            self._worked = self._worked.add(look, workers.running)
        return Telemetry(Totals(self._worked.finished, 0, self._worked.busy_seconds), ())


class ForeignPace:
    """Source and sink in one. The wish is applied at every look where the consumer differs from it; `inner` keeps it
    in the bucket too, where workers that use the library find it."""

    def __init__(
        self, consumer: ForeignConsumer, inner: ResourcePace, wanted: Callable[[], WantedPace]
    ) -> None:
        self._consumer = consumer
        self._inner = inner
        self._wanted = wanted
        self._most = MostInHand()

    async def read(self) -> PaceReading:
        """Raises PeakclipError when NATS does not answer or does not allow it."""
        try:
            reading = await self._inner.read()
        except NoBucketError:  # nobody here uses the library
            if self._wanted().group is not None:  # but a share is kept there, for whoever it is
                raise
            reading = as_if(self._wanted())
        if self._wanted().enforced and self._consumer.look is not None:
            await self._apply(reading, self._consumer.look)
        return reading

    async def _apply(self, reading: PaceReading, look: Look) -> None:
        consumer = self._consumer
        if consumer.paused != reading.paused:
            await consumer.pause(reading.paused)
        config = consumer.config or {}
        if reading.paused:
            self._most = MostInHand()  # a pause is no slow work: the bound would come out too high
        if consumer.speaks or reading.paused or config.get("ack_policy") != "explicit":
            return
        longest = config.get("ack_wait", _ACK_WAIT_NANOSECONDS) / 1e9
        now = int(config.get("max_ack_pending", _MAX_ACK_PENDING))
        wanted, self._most = self._most.next(look, reading.effective_per_second, now, longest)
        if wanted != now:
            await consumer.bound(wanted)

    async def set_effective(self, per_second: float) -> None:
        await self._inner.set_effective(per_second)
