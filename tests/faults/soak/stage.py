"""The stack of a soak, with what lets the nemesis at it, and a receiver of webhooks."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from faults.launcher import launched
from faults.listeners import SETTINGS
from faults.nemesis.nemesis import Surroundings, surroundings
from faults.soak.options import Options
from faults.system import System, running
from receivers import WebhookReceiver, webhook_receiver

from peakclip.local.process import ProcessSpec

_KEEP_BYTES: Final = 1_900_000_000  # of finished messages: what is finished is judged, too
_EXPIRIES: Final = 1_000.0  # a second


@dataclass(frozen=True, slots=True)
class Stage:
    folder: Path
    system: System
    around: Surroundings
    receiver: WebhookReceiver


@contextlib.asynccontextmanager
async def staged(options: Options, folder: Path) -> AsyncIterator[Stage]:
    """The folder is empty, and PostgreSQL's account can enter it."""
    settings = {
        **SETTINGS,
        "PEAKCLIP_RECONCILE_AFTER_SECONDS": "6",
        "PEAKCLIP_KEEP_BYTES": str(_KEEP_BYTES),
        "PEAKCLIP_EFFECTS_MIN_WORKERS": "2",
    }
    async with webhook_receiver() as receiver, surroundings(folder) as around:

        def adapt(spec: ProcessSpec) -> ProcessSpec:
            planted = {"FAULTS_SABOTAGE": options.plant} if options.plant else {}
            return launched(around.adapt(spec), **planted)

        async with running(
            folder / "data", settings, adapt=adapt, rate=options.drain_rate, min_workers=2, max_workers=4,
            effects_rate=options.drain_rate, reaper_rate=_EXPIRIES,
        ) as system:  # fmt: skip
            yield Stage(folder, system, around, receiver)
