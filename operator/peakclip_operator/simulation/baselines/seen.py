"""What a baseline may read of the simulated world."""

from __future__ import annotations

from typing import Protocol


class Seen(Protocol):
    """The state of queue and workers at one moment, and counters that only grow."""

    @property
    def pending(self) -> int:
        """Orders that wait in the stream."""

    @property
    def in_flight(self) -> int:
        """Orders that a worker has, not yet acknowledged."""

    @property
    def asked(self) -> int:
        """Workers wished for: `spec.replicas`."""

    @property
    def ready(self) -> int:
        """Workers that can work."""

    @property
    def finished_total(self) -> int: ...

    @property
    def busy_seconds_total(self) -> float:
        """Worker-seconds spent on orders."""


def lag(seen: Seen) -> int:
    """Orders without an acknowledgement: `num_pending + num_ack_pending` of the consumer."""
    return seen.pending + seen.in_flight
