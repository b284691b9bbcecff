"""The designs that are compared. Pure: what each is called and what it does with an order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Design:
    name: str
    letter: str
    words: str  # for tables and figures
    durable: bool  # on the disk before the answer
    note: str = ""  # in figures, under the number


ACCEPT: Final = (
    Design("sync", "a", "One transaction per request", True),
    Design("sync-tuned", "a'", "The same, connections tuned", True),
    Design("sync-one-call", "a''", "Tuned, in one round trip", True),
    Design("lazy", "b", "One message per request, default fsync", False, "not durable"),
    Design("always", "c", "One message per request, fsync always", True),
    Design("peakclip", "d", "Peakclip", True),
    Design("echo", "e", "Bare echo: the ceiling", False, "stores nothing"),
)

DRAIN: Final = (
    Design("tx-1", "", "A transaction per order, 1 connection", True),
    Design("tx-4", "", "A transaction per order, 4 connections", True),
    Design("tx-16", "", "A transaction per order, 16 connections", True),
    Design("batch-1", "", "Peakclip's statement, 1 order", True),
    Design("batch-64", "", "Peakclip's statement, 64 orders", True),
    Design("batch-256", "", "Peakclip's statement, 256 orders", True),
    Design("batch-1000", "", "Peakclip's statement, 1,000 orders", True),
    Design("worker", "", "A whole Peakclip worker, unlimited", True),
)

BY_NAME: Final = {design.name: design for design in (*ACCEPT, *DRAIN)}
