"""What becomes of an order that waits for its group: stored, or why not; and how it is told."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from peakclip.errors import PeakclipError
from peakclip.messages import Order

log = structlog.get_logger()


class SoldOutError(PeakclipError):
    """Every unit of the sale is taken."""


class IntakeUnavailableError(PeakclipError):
    """The order could not be stored durably. Nothing was accepted, or nobody knows: retry with the same key."""


class InDoubtError(IntakeUnavailableError):
    """Whether the order is stored is not known yet: retry with the same key."""


class BusyError(IntakeUnavailableError):
    """More orders wait to be stored than can be stored soon. Nothing was accepted: retry with the same key."""


# The sequence of the order's frame in INTAKE, or why there is none.
Outcome = int | SoldOutError | IntakeUnavailableError


def tell(ended: Callable[[Outcome], None], outcome: Outcome) -> None:
    """One customer's broken connection is not the others' problem."""
    try:
        ended(outcome)
    except Exception:
        log.exception("answer_failed")


class Waiting:
    """An order that waits for its outcome. It is told once, by a call and not by a future: that would cost more
    than the order itself."""

    __slots__ = ("_ended", "order", "since")

    def __init__(self, order: Order, ended: Callable[[Outcome], None], since: float) -> None:
        self.order = order
        self.since = since  # loop time
        self._ended: Callable[[Outcome], None] | None = ended

    def end(self, outcome: Outcome) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            tell(ended, outcome)
