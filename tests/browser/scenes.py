"""Statuses as a controller would send them, from a small model: arrivals in, exactly R out, workers follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from peakclip.messages import PoolStatus

TICK_SECONDS = 0.5
_WINDOW_TICKS = 12  # rates are over six seconds


@dataclass
class Scene:
    """`arrivals(t)` is orders per second at `t` seconds from the start of the scene."""

    arrivals: Callable[[float], float]
    limit: Callable[[float], float] = lambda _: 100.0
    paused: Callable[[float], bool] = lambda _: False
    stuck: Callable[[float], bool] = lambda _: False
    pool: str = "orders"

    def play(self, seconds: float) -> Iterator[tuple[float, PoolStatus]]:
        """A status per tick with its time in the scene."""
        backlog, processed, failed, workers = 0.0, 0.0, 0, 1
        arrived: list[float] = [0.0] * _WINDOW_TICKS
        finished: list[float] = [0.0] * _WINDOW_TICKS
        for tick in range(int(seconds / TICK_SECONDS) + 1):
            at = tick * TICK_SECONDS
            limit = self.limit(at)
            coming = self.arrivals(at) * TICK_SECONDS
            backlog += coming
            able = 0.0 if self.paused(at) or self.stuck(at) else min(limit, workers * 20.5)
            done = min(backlog, able * TICK_SECONDS)
            backlog -= done
            processed += done
            failed += 1 if done and tick % 97 == 0 and tick < 60 else 0
            arrived, finished = [*arrived[1:], coming], [*finished[1:], done]
            window = _WINDOW_TICKS * TICK_SECONDS
            arrival, drain = sum(arrived) / window, sum(finished) / window
            wanted = (
                max(1, min(7, round(limit / 20 + 0.4)))
                if backlog > limit
                else max(1, round(arrival / 20 + 0.4))
            )
            workers += (wanted > workers) - (wanted < workers) * (tick % 20 == 0)
            left = round(backlog)
            eta = left / (drain - arrival) if left and drain > arrival else (0.0 if not left else None)
            yield (
                at,
                PoolStatus(
                    pool=self.pool,
                    at=at,
                    limit_per_second=limit,
                    effective_per_second=limit,
                    paused=self.paused(at),
                    lag_ready=max(0, left - 5),
                    lag_in_flight=min(5, left),
                    oldest_seconds=left / limit if left else None,
                    arrival_per_second=round(arrival, 2),
                    drain_per_second=round(drain, 2),
                    per_worker_per_second=20.5,
                    workers_current=workers,
                    workers_desired=wanted,
                    workers_ceiling=7,
                    eta_seconds=None if self.paused(at) else eta,
                    reason=_reason(self.paused(at), left, limit, arrival),
                    binding_constraint="limit" if left > limit else "demand",
                    processed_total=round(processed),
                    failed_total=failed,
                    average_processing_seconds=0.0488,
                    starts_max_sliding_second=min(round(processed), 104),
                    burst=5,
                ),
            )


def _reason(paused: bool, left: int, limit: float, arrival: float) -> str:
    if paused:
        return "Paused"
    if left > limit:
        return "CatchingUp"
    return "KeepingUp" if arrival else "Idle"


def last(scene: Scene, seconds: float, **changes: object) -> PoolStatus:
    """What the pool says at the end of `seconds`."""
    *_, (_, status) = scene.play(seconds)
    return msgspec.structs.replace(status, **changes)


BURST = Scene(lambda t: 10_000.0 if 540.0 <= t < 541.0 else 30.0 + 6 * ((t // 30) % 3))
IDLE = Scene(lambda t: 4_000.0 if 200.0 <= t < 201.0 else 0.0)
