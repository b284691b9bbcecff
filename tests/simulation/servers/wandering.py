"""A random walk over what a stream and two consumers can be told: the same walk gives the same answers everywhere."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from simulation.servers.places import Place
from simulation.servers.scenes import SECOND, consumer

from peakclip.errors import PeakclipError, RefusedError
from peakclip.jetstream import InMessage, JetStream, OutMessage
from peakclip.pull import PullConsumer

STREAM: Final = "WALK"
_SUBJECTS: Final = ("w.a", "w.b", "w.c.d")
_FETCH_SECONDS: Final = 0.03
_A_MOMENT_SECONDS: Final = 0.01
_MOST_LOOKS: Final = 50


class Walk:
    """`told` is everything that was answered, and what the server said of itself after every step.

    `expected` is what another walk was told: a real server says the same of itself a moment later only.
    """

    def __init__(self, seed: int, expected: Sequence[tuple[object, ...]] = ()) -> None:
        self._expected = expected
        self.told: list[tuple[object, ...]] = []
        self._chance = random.Random(seed)
        self._in_hand: list[InMessage] = []
        self._pulls: list[PullConsumer] = []
        self._few = seed % 3 == 0  # of a subject are kept

    async def go(self, place: Place, steps: int) -> None:
        js = place.js
        most = {"max_msgs_per_subject": 3} if self._few else {}
        config = {"name": STREAM, "subjects": ["w.>"], "storage": "file", "allow_atomic": True, **most}
        await js.create_stream(config)
        long = {"ack_wait": 60 * SECOND}
        self._pulls = [
            await consumer(js, STREAM, "all", max_ack_pending=6, max_deliver=3, **long),
            await consumer(js, STREAM, "some", filter_subjects=["w.b", "w.c.*"], **long),
        ]
        kinds: list[tuple[int, Callable[[JetStream], Awaitable[object]]]] = [
            (6, self._publish), (2, self._batch), (7, self._fetch), (9, self._end), (1, self._purge),
        ]  # fmt: skip
        for step in range(steps):
            if step == steps // 2:
                await place.restart()
            (work,) = self._chance.choices([kind for _, kind in kinds], [often for often, _ in kinds])
            try:
                answer = await work(js)
            except RefusedError as exc:
                answer = exc.code
            except PeakclipError as exc:
                answer = type(exc).__name__
            self.told.append((step, work.__name__, answer, *await self._settled(js, step)))

    async def _settled(self, js: JetStream, step: int) -> list[object]:
        states = await self._states(js)
        for _ in range(_MOST_LOOKS if step < len(self._expected) else 0):
            if states == list(self._expected[step][3:]):
                break
            await asyncio.sleep(_A_MOMENT_SECONDS)
            states = await self._states(js)
        return states

    async def _states(self, js: JetStream) -> list[object]:
        found = await js.stream_state(STREAM)
        stream = (found.messages, found.size_bytes > 0, found.first_seq, found.last_seq)
        return [stream, *[await js.consumer_state(STREAM, name) for name in ("all", "some")]]

    def _id(self) -> dict[str, str]:
        return {"Nats-Msg-Id": str(self._chance.randrange(40))} if self._chance.random() < 0.6 else {}

    async def _publish(self, js: JetStream) -> object:
        subject, only = self._chance.choice(_SUBJECTS), self._chance.random() < 0.2
        return await js.publish(subject, b"x", headers=self._id(), create_only=only)

    async def _batch(self, js: JetStream) -> object:
        count = self._chance.randrange(2, 5)
        batch = [OutMessage(self._chance.choice(_SUBJECTS), b"x", self._id()) for _ in range(count)]
        return await js.publish_batch(batch)

    async def _fetch(self, js: JetStream) -> object:
        found = await self._chance.choice(self._pulls).fetch(self._chance.randrange(1, 5), _FETCH_SECONDS)
        self._in_hand += found
        return [(one.seq, one.delivered, one.num_pending, one.subject) for one in found]

    async def _end(self, js: JetStream) -> object:
        """Of any message that was ever delivered, the newest more often."""
        if not self._in_hand:
            return None
        place = max(self._chance.randrange(len(self._in_hand)) for _ in range(2))
        word = self._chance.choice((b"+ACK", b"+ACK", b"-NAK", b"+TERM", b"+WPI"))
        await js.request(self._in_hand[place]._msg.reply, word, timeout_seconds=0.3)
        return self._in_hand[place].seq, word

    async def _purge(self, js: JetStream) -> object:
        state: Any = await js.stream_state(STREAM)
        if state.last_seq == 0:
            return None
        seq = self._chance.randint(state.first_seq, state.last_seq + 1)
        subject = self._chance.choice((None, None, None, "w.a"))
        await js.purge_below(STREAM, seq, subject=subject)
        return seq, subject
