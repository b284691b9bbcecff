"""What is kept of each second of a run."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """A second that has just passed."""

    second: int
    arrived: int
    started: int
    finished: int
    lag: int
    asked: int
    existing: int
    ready: int
    rate: float
    """In force at its end."""
