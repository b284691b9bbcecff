"""What is said of a pool that shares one R with others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Word(NamedTuple):
    """A condition without its times."""

    status: bool | None
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Sharing:
    """What a pool is told of its group. Rates are messages per second."""

    limit: float
    """R of the group: the smallest that one of its pools states."""
    limits_differ: bool
    guaranteed: float
    """All guarantees together."""
    pools: tuple[str, ...]
    share: float | None
    """Of this pool; None until it is known."""


def shared_word(sharing: Sharing) -> Word:
    """False where the group is not what somebody wished for."""
    limit, pools = f"{sharing.limit:g}/s", ", ".join(sharing.pools)
    if sharing.limits_differ:
        return Word(
            False,
            "LimitsDiffer",
            f"The pools {pools} state different spec.throughput.shared.limitPerSecond: the smallest counts, {limit}."
            " State the same in all of them.",
        )
    if sharing.guaranteed > sharing.limit:
        return Word(
            False,
            "GuaranteesExceed",
            f"The pools {pools} are guaranteed {sharing.guaranteed:g}/s together, and share {limit}: each gets its"
            " guarantee in proportion. Lower spec.throughput.shared.guaranteedPerSecond.",
        )
    if sharing.share is None:
        return Word(None, "Starting", "The shares are not known yet.")
    return Word(True, "Sharing", f"Up to {sharing.share:.3g}/s of the {limit} that {pools} share.")
