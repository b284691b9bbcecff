"""What was found of a chapter."""

from __future__ import annotations

from typing import Any

import msgspec
from faults.history.finding import Finding


class Verdict(msgspec.Struct, frozen=True):
    name: str
    findings: list[Finding]
    number: int  # of findings: no more than some are shown
    orders: dict[str, int]  # rows by status; expired ones apart
    entries: int
    events: int
    seconds: float
    complete: bool  # the streams had forgotten nothing before it was read

    def told(self) -> dict[str, Any]:
        """For the report, which has the findings elsewhere."""
        return {
            "name": self.name,
            "entries": self.entries,
            "events": self.events,
            "orders": self.orders,
            "findings": self.number,
            "complete": self.complete,
            "seconds": self.seconds,
        }
