"""Everything between a request that is understood and its order on disk, put together: needs a connection only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from peakclip.clocks import Clocks
from peakclip.errors import PeakclipError
from peakclip.ingest import LEAST_PLACES, Intake, new_frame_id
from peakclip.jetstream import JetStream
from peakclip.service import Service
from peakclip_api.accept import Acceptor
from peakclip_api.board import Board, steady_clock
from peakclip_api.line import Follower, Line
from peakclip_api.room import Room
from peakclip_api.settings import MOST_IN_FLIGHT
from peakclip_api.wait import Wait


class Accepting:
    """`begin` returns when repeats are recognised: nothing may be accepted before."""

    def __init__(
        self,
        js: JetStream,
        remembered_orders: int,
        longest_wait_seconds: float | None,
        *,
        most_in_flight: int = MOST_IN_FLIGHT,
        clocks: Clocks | None = None,
        new_id: Callable[[], str] = new_frame_id,
    ) -> None:
        """`most_in_flight`: orders that are being stored. `new_id`: see `Intake`."""
        epoch, steady = (clocks.epoch, clocks.steady) if clocks else (time.time, time.monotonic)
        self.line = Line(keep=remembered_orders)
        self.follower = Follower(js, self.line, steady=steady)
        self.board = Board(js, clock=clocks.epoch if clocks else steady_clock())
        self.intake = Intake(
            js, lambda seq, stored: self.acceptor.stored(seq, stored), clock=epoch, new_id=new_id
        )
        self.wait = Wait(self.line, self.follower, self.board, longest_wait_seconds)
        self.room = Room(most_in_flight, self.intake.places, least=LEAST_PLACES)
        self.acceptor = Acceptor(self.intake, self.line, self.follower, self.wait, self.room, clock=epoch)

    async def begin(self, service: Service) -> None:
        """Works until the service ends. Whoever calls this stops the board."""
        await self.board.start()
        await _started(self.follower)
        # A repeat must find its order, so nothing is accepted before the log is read to its end.
        await self.follower.caught_up.wait()
        service.spawn("queue-length", self.follower.run())
        service.spawn("intake", self.intake.run())
        service.spawn("metrics", self.acceptor.write_metrics())


async def _started(follower: Follower) -> None:
    """The streams are there; the server may go away at any moment."""
    while True:
        try:
            await follower.start()
            return
        except PeakclipError:
            await asyncio.sleep(0.2)
