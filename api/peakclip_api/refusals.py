"""Nobody is told that a sale is sold out who has just bought: first the log that all processes share is looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from peakclip.errors import PeakclipError
from peakclip.ingest import IntakeUnavailableError, Outcome, SoldOutError, tell
from peakclip_api.line import Follower

log = structlog.get_logger()


class Refusals:
    """Those for whom a sale is sold out, as far as this process knows. All who come together wait for one look."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self._waiting: list[Callable[[Outcome], None]] = []
        self._looking: asyncio.Task[None] | None = None

    def confirm(self, ended: Callable[[Outcome], None]) -> None:
        """Calls back with SoldOutError once the line holds what any process had accepted by now.

        With IntakeUnavailableError while the log cannot be followed.
        """
        self._waiting.append(ended)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name="confirm-sold-out")

    async def _look(self) -> None:
        while self._waiting:
            together, self._waiting = self._waiting, []
            outcome: Outcome = IntakeUnavailableError("Whether this order was accepted is not known yet.")
            try:
                await self._follower.up_to_date()
                outcome = SoldOutError()
            except PeakclipError as exc:
                log.warning("refusals_not_confirmed", orders=len(together), error=repr(exc))
            finally:  # whatever happened, nobody is left waiting
                for ended in together:
                    tell(ended, outcome)
