"""The loop's memory across restarts: recalled before the first decision, saved from then on."""

from __future__ import annotations

import math
from dataclasses import replace

import structlog

from peakclip_operator.plan import Decision, Memory
from peakclip_operator.ports import MemoryStore

log = structlog.get_logger()

SAVE_SECONDS = 2.0  # a decision that has changed is saved at once; below the gap that the plan's series bear
RECALL_SECONDS = 10.0  # so long nothing is decided for want of the memory alone


class KeptMemory:
    """Without a store nothing is recalled and nothing is saved."""

    def __init__(self, pool: str, store: MemoryStore | None) -> None:
        self._pool = pool
        self._store = store
        self.is_known = store is None
        """It is known what was kept, if anything."""
        self._found: Memory | None = None
        self._missed_at: float | None = None
        self._saved: tuple[int | None, float] | None = None
        self._saved_at = -math.inf

    async def load(self, now: float) -> None:
        """What was kept. Raises what the store raises."""
        if self._store is not None:
            self._found = await self._store.load(now)
            self.is_known = True

    def taken(self, own: Memory, now: float) -> Memory | None:
        """What was found, once: from then on the loop's own memory counts.

        `own` is of the decisions since the restart. They may have brought another number of workers, by the fallback:
        that one is where the pool stands. With the number of before it would drop all of them in one tick.
        """
        found, self._found = self._found, None
        if found is None or own.replicas is None or own.replicas == found.replicas:
            return found
        needs = (*(need for need in found.needs if need[1] > own.replicas), (now, own.replicas))
        return replace(found, replicas=own.replicas, needs=needs)

    def is_missed(self, now: float) -> bool:
        """Whether a decision would be made that the one before might not have made: for a while it is better to hold.

        To be asked when the lag is known: while it is not, NATS is away, the memory cannot be read, and what is wished
        for an unknown lag holds for as long as that takes.
        """
        if self.is_known:
            return False
        self._missed_at = now if self._missed_at is None else min(self._missed_at, now)
        if now - self._missed_at >= RECALL_SECONDS:
            log.warning("memory_begins_anew", pool=self._pool, error="What was kept could not be read.")
            self.is_known = True
        return not self.is_known

    def is_due(self, decision: Decision, now: float) -> bool:
        """Whether to save now. One that fails is tried again at the next time, and not at every tick."""
        decided = decision.replicas, decision.rate
        if self._store is None or not self.is_known:
            return False  # what is kept there is better
        if decided == self._saved and 0 <= now - self._saved_at < SAVE_SECONDS:
            return False
        self._saved, self._saved_at = decided, now
        return True

    async def save(self, memory: Memory, now: float) -> None:
        """Raises what the store raises."""
        if self._store is not None:
            await self._store.save(memory, now)
