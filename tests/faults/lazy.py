"""Servers that answer before what they answer for is on the disk: what the power cut has to find."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final, Self

from peakclip.local.nats import NatsServer
from peakclip.local.postgres import PostgresServer

_ALWAYS: Final = "sync_interval: always, "


class LazyNats(NatsServer):
    """Syncs every two minutes, as it does without the setting."""

    def prepare(self) -> Self:
        super().prepare()
        path = Path(self.spec.argv[-1])
        text = path.read_text()
        if _ALWAYS not in text:
            raise ValueError("the setting that is to be taken away is not there")
        path.write_text(text.replace(_ALWAYS, ""))
        return self


class LazyPostgres(PostgresServer):
    """Answers a commit first, and writes it within 0.6 s."""

    setting = "-csynchronous_commit=off"

    def prepare(self) -> Self:
        super().prepare()
        self._spec = dataclasses.replace(self.spec, argv=[*self.spec.argv, self.setting])
        return self


class CarelessPostgres(LazyPostgres):
    """Never waits for the disk."""

    setting = "-cfsync=off"
