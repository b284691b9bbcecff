"""How many orders there are that nobody has acknowledged, as a consumer of a real stream would say."""

from __future__ import annotations

from peakclip_operator.simulation.autoscalers import Seen


def outstanding(seen: Seen) -> float | None:
    """`num_pending + num_ack_pending`; None: unknown.

    An order in the simulated world begins and ends within a step, so with nothing that waits the world's own lag is
    0 while workers are busy. A real consumer would count what they are busy with: 90/s of 43 ms are 3.9.
    """
    return None if seen.lag is None else max(float(seen.lag.total), seen.busy)
