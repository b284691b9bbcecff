"""Keeps the chapters after their end: files, who is asked about them, and what was found."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
from faults.history.facts import Delivery
from faults.soak.chapter import Chapter, chapter_of
from faults.soak.inquest import AWAY
from faults.soak.verdict import Verdict
from faults.system import environ

from peakclip.errors import PeakclipError

SETTLES_SECONDS: Final = 30.0  # after the last answer, before a chapter is judged for the first time
AGAIN_SECONDS: Final = 20.0  # it may not have come to rest
_AT_ONCE: Final = 2  # processes, at the end: while there is load, one


class InquestError(PeakclipError):
    """A question about what the soak has left has no answer."""


@dataclass(slots=True)
class _Closed:
    chapter: Chapter
    next_look: float
    verdict: Verdict | None = None


@dataclass(slots=True)
class Keeper:
    data: Path  # of the stack
    folder: Path  # of the chapters
    deliveries: Callable[[], list[Delivery]]  # all webhooks that came
    closed: dict[str, _Closed] = field(default_factory=dict)
    accepted: int = 0  # orders that somebody was told of, of chapters that are closed

    def close(self, chapter: Chapter, now: float) -> Mapping[str, int]:
        counts = chapter.close(self.folder)
        self.accepted += counts["accepted"]
        self.closed[chapter.name] = _Closed(chapter, now + SETTLES_SECONDS)
        return counts

    @property
    def judged(self) -> int:
        """In order."""
        return sum(one.verdict is not None and not one.verdict.number for one in self.closed.values())

    @property
    def open_questions(self) -> int:
        return sum(one.verdict.number for one in self.closed.values() if one.verdict is not None)

    async def look(self, now: float) -> None:
        """At one chapter that is not known to be in order, if its time has come. Servers may be away."""
        for one in self.closed.values():
            if (one.verdict is None or one.verdict.number) and now >= one.next_look:
                one.next_look = now + AGAIN_SECONDS
                try:
                    one.verdict = await self.judge(one.chapter)
                except AwayError:
                    return
                return

    async def last_look(self) -> list[Verdict]:
        """At all of them, at rest."""
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def look(one: _Closed) -> Verdict:
            async with at_once:
                one.verdict = await self.judge(one.chapter)
                return one.verdict

        return list(await asyncio.gather(*(look(one) for one in self.closed.values())))

    async def judge(self, chapter: Chapter) -> Verdict:
        mine = [one for one in self.deliveries() if chapter_of(one.user) == chapter.name]
        chapter.settle(self.folder, tuple(mine))
        return msgspec.convert(await self._ask(chapter.name), Verdict)

    async def audit(self, rate: float) -> dict[str, Any]:
        return dict(await self._ask("audit", "--rate", f"{rate:g}"))

    async def _ask(self, what: str, *more: str) -> Any:
        tests = str(Path(__file__).parents[2])
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "faults.soak.inquest", str(self.data), str(self.folder), what, *more,
            env=environ(PYTHONPATH=tests), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us
        )  # fmt: skip
        try:
            said, complained = await process.communicate()
        except asyncio.CancelledError:
            with contextlib.suppress(
                ProcessLookupError
            ):  # else the cancellation would be lost, and we go on for ever
                process.kill()
            raise
        if process.returncode == AWAY:
            raise AwayError(complained.decode())
        if process.returncode:
            raise InquestError(f"{what}: exit code {process.returncode}: {complained.decode()[-4_000:]}")
        return msgspec.json.decode(said)


class AwayError(PeakclipError):
    """NATS or PostgreSQL was away."""
