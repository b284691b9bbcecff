"""A soak from nothing to its report: stack, clients, nemesis, rest, and the question what became of it all."""

from __future__ import annotations

import asyncio
import contextlib
import random
import resource
import shutil
import signal
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.machine import describe
from faults.history.facts import Delivery
from faults.history.fetch import delivery
from faults.judge import exits
from faults.launcher import READY_SECONDS
from faults.nemesis.nemesis import Nemesis
from faults.nemesis.plan import plan
from faults.soak.cast import Cast
from faults.soak.chapter import Chapter
from faults.soak.crowd import Crowd
from faults.soak.keeper import Keeper
from faults.soak.options import Options
from faults.soak.report import Broken, Report, of_audit, of_ends, of_trial, of_verdicts
from faults.soak.stage import Stage, staged
from faults.soak.view import Display, View
from faults.soak.watch import Watch
from support import until

from peakclip.store import DATABASE_AWAY

_LONG_SHARE: Final = 0.1  # of the faults that last: so many longer than a request is waited for
_LOOK_SECONDS: Final = 0.5
_HELD_SECONDS: Final = 60.0  # so much of the load may wait in line; then clients stay away
_LEAST_DISK: Final = 2 << 30  # bytes; with less the load ends
_DELIVERED_SECONDS: Final = 180.0


@dataclass
class Soak:
    options: Options
    stage: Stage
    display: Display
    over: asyncio.Event = field(default_factory=asyncio.Event)
    broken: list[Broken] = field(default_factory=list)
    most_bytes: int = 0  # of memory that this process had

    def __post_init__(self) -> None:
        chapters = self.stage.folder / "chapters"
        chapters.mkdir()
        self.view = View(self.options.seed, self.options.seconds)
        self.watch = Watch(self.view, self.stage.system.database)
        self.keeper = Keeper(self.stage.system.stack.directory, chapters, self._deliveries)
        self.crowd = Crowd(
            self.stage.system, self.stage.receiver, self.options.rate, random.Random(self.options.seed),
            self.watch, self._held, self.over, self.options.patience,
        )  # fmt: skip

    def _held(self) -> bool:
        backlog = self.view.counts.backlog
        return backlog is not None and backlog > _HELD_SECONDS * self.options.rate

    def _deliveries(self) -> list[Delivery]:
        return [delivery(call) for call in self.stage.receiver.calls if call.verified]

    # -- under load ----------------------------------------------------------------------------------------

    async def load(self) -> float:
        """Until the time is over, or somebody says so; then until everybody has an answer. Seconds of load."""
        began = time.monotonic()
        self.view.phase = "load and faults"
        side = [asyncio.create_task(one) for one in (self._look(began), self._inquire())]
        try:
            async with asyncio.TaskGroup() as group:
                nemesis = group.create_task(self._harm())
                group.create_task(self._chapters())
                await self._until_over(self.options.seconds)
                self.over.set()
                took = time.monotonic() - began
                self.view.phase = "last answers"
                nemesis.cancel()
        finally:
            for task in side:
                task.cancel()
            for done in await asyncio.gather(*side, return_exceptions=True):
                if isinstance(done, Exception):
                    raise done
        return took

    async def _until_over(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.over.wait()

    async def _harm(self) -> None:
        pause = 60.0 / self.options.faults
        faults = plan(self.options.seed, self.options.seconds, pause, self.options.pairs, _LONG_SHARE)
        async with self._told_if_broken("nemesis"):
            await Nemesis(self.stage.system, self.stage.around, self.watch).run(faults)

    @contextlib.asynccontextmanager
    async def _told_if_broken(self, who: str) -> AsyncIterator[None]:
        """Of an hour of faults nothing is thrown away because one part of the soak itself does not stand them."""
        try:
            yield
        except Exception:  # noqa: BLE001 - whatever it is, it is in the report
            self._found(Broken("the soak itself", [who], traceback.format_exc()))

    def _found(self, one: Broken) -> None:
        """Said at once: whoever looks may want to see the system as it is now."""
        self.broken.append(one)
        self.view.findings = len(self.broken)
        self.display.say(f"{one.what}: {', '.join(one.subjects)}: {one.evidence.strip()}")

    async def _chapters(self) -> None:
        number = max(1, round(self.options.seconds / self.options.chapter_seconds))
        seconds = self.options.seconds / number
        async with asyncio.TaskGroup() as group:
            for one in range(1, number + 1):
                if not self.over.is_set():
                    self.view.chapters += 1
                    group.create_task(self._chapter(Chapter(one), seconds))
                    await self._until_over(seconds)

    async def _chapter(self, chapter: Chapter, seconds: float) -> None:
        async with self._told_if_broken(chapter.name):
            await Cast(self.crowd, chapter, random.Random(self.crowd.chance.random())).come(seconds)
        counts = self.keeper.close(chapter, time.monotonic())
        self.view.counts.ended(counts)
        for words in chapter.wrong:
            self._found(Broken("wrong answer", [chapter.name], words))

    async def _inquire(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            async with self._told_if_broken("inquest"):
                await self.keeper.look(time.monotonic())
            self.view.judged, self.view.open_questions = self.keeper.judged, self.keeper.open_questions

    async def _look(self, began: float) -> None:
        while True:
            now = time.monotonic()
            self.view.elapsed = now - began
            await self.watch.look(now)
            self.most_bytes = max(self.most_bytes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
            if shutil.disk_usage(self.stage.folder).free < _LEAST_DISK and not self.over.is_set():
                self._found(Broken("the soak itself", ["disk"], "it is nearly full: the load ends here"))
                self.over.set()
            self.display.show(self.view, now)
            await asyncio.sleep(_LOOK_SECONDS)

    # -- afterwards ----------------------------------------------------------------------------------------

    async def finish(self, report: Report, ended: list[tuple[str, str]]) -> None:
        """At rest: everything is judged once more. `ended`: processes, and how they ended."""
        self.view.faults.in_force.clear()
        began = time.monotonic()
        self._phase("comes to rest")
        async with self._told_if_broken("rest"):
            await self.stage.system.until_ready(READY_SECONDS)
        audit = await self.keeper.audit(self.options.drain_rate)
        # They follow the effects, for which the auditor has waited.
        async with self._told_if_broken("webhooks"):
            await until(self._all_delivered, _DELIVERED_SECONDS, pause=0.5)
        report.rest_seconds = time.monotonic() - began - audit["audit_seconds"]
        self._phase("judges every chapter")
        verdicts = await self.keeper.last_look()
        log = self.stage.system.stack.directory / "logs" / "operator.log"
        report.audit, report.orders = audit, audit["orders"]
        report.chapters = [verdict.told() for verdict in verdicts]
        self.broken += [*of_audit(audit), *of_ends(Counter(ended), exits(log)), *self._of_webhooks()]
        self.broken += of_verdicts(verdicts)
        counts, calls = self.view.counts, self.stage.receiver.calls
        self.broken += of_trial(self.view.faults.number, len(calls), counts.causes)
        report.broken = self.broken
        report.number = len(self.broken) + sum(one.number - len(one.findings) for one in verdicts)
        report.check_seconds = time.monotonic() - began - report.rest_seconds
        self.view.findings, self.view.judged = report.number, self.keeper.judged
        self._phase("done")

    def _phase(self, words: str) -> None:
        self.view.phase = words
        self.display.show(self.view, time.monotonic(), always=True)

    async def _all_delivered(self) -> bool:
        pending = "select count(*) from deliveries where state = 'pending'"
        try:
            return not await self.stage.system.database.fetchval(pending)
        except DATABASE_AWAY:
            return False

    def _of_webhooks(self) -> list[Broken]:
        return [
            Broken("forged", [call.key], f"the signature of {call.path} does not verify")
            for call in self.stage.receiver.calls
            if not call.verified
        ]

    def stop(self, loop: asyncio.AbstractEventLoop, number: signal.Signals) -> None:
        """The second time it ends us at once."""
        loop.remove_signal_handler(number)
        self.display.say("The load ends; the system comes to rest and is judged. Once more to give up.")
        self.over.set()


async def soak(options: Options, folder: Path, display: Display, ended: list[tuple[str, str]]) -> Report:
    """`ended` grows while it runs: processes of the stack, and how they ended."""
    async with staged(options, folder) as stage:
        about: dict[str, Any] = await describe(stage.system.database, folder)
        report = Report(
            options, {**about["versions"], **about["machine"], "code": about["code"]}, time.time()
        )
        run = Soak(options, stage, display)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, run.stop, loop, number)
        report.load_seconds = await run.load()
        await run.finish(report, ended)
        report.clients = {
            "accepted": run.keeper.accepted,
            "webhooks": len(stage.receiver.calls),
            **run.view.counts.told(),
        }
        report.faults = run.view.faults.told()
        report.harness = {
            "most_memory_bytes": run.most_bytes,
            "disk_bytes": await asyncio.to_thread(size, folder),
        }
        return report


def size(folder: Path) -> int:
    """Bytes of all files below."""
    return sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())
