"""The report of a run, one JSON object (the contract, 7.6): what the client saw and the database wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from peakclip.audit import AuditResult
from peakclip.durability import COMMITS_TO_DISK, STREAMS
from peakclip.errors import OutcomeUnknownError, PeakclipError, UnavailableError
from peakclip.jetstream import JetStream
from peakclip.load import LoadResult
from peakclip.messages import PoolStatus
from peakclip.report.rates import after_ramp, max_sliding, mean_rate
from peakclip.store import DATABASE_AWAY


@dataclass(frozen=True, slots=True)
class Drain:
    """The sale's orders as the database has them; epoch seconds."""

    accepted: Sequence[float] = ()
    started: Sequence[float] = ()
    committed: Sequence[float] = ()
    statuses: dict[str, int] = field(default_factory=dict)

    @property
    def seconds(self) -> float | None:
        """Last minus first committed; None if nothing was."""
        return max(self.committed) - min(self.committed) if self.committed else None


@dataclass(frozen=True, slots=True)
class Durability:
    """Read back from the servers. None: a server did not tell."""

    jetstream_syncs_always: bool | None
    synchronous_commit: str | None
    fsync: str | None

    @property
    def durable(self) -> bool | None:
        postgres = (
            None
            if self.synchronous_commit is None or self.fsync is None
            else self.synchronous_commit in COMMITS_TO_DISK and self.fsync == "on"
        )
        if self.jetstream_syncs_always is False or postgres is False:
            return False
        return None if self.jetstream_syncs_always is None or postgres is None else True


def client_report(load: LoadResult) -> dict[str, Any]:
    """The report as far as a client can know it; the rest is None, which is not zero."""
    burst = load.to_json()
    return {
        "version": 1,
        "accepted": load.accepted,
        "refused": load.refused,
        "errors": load.errors,
        "durable": None,
        "accept_seconds": burst["accept_seconds"],
        "accept_p50_ms": burst["accept_p50_ms"],
        "accept_p99_ms": burst["accept_p99_ms"],
        "drained": None,
        "drain_seconds": None,
        "rate": {"target": None, "mean": None, "error_percent": None, "max_sliding_second": None},
        "workers": {"min": None, "max": None},
        "lost": None,
        "duplicated": None,
        "oversold": None,
        "undersold": None,
        "plot": None,
        "burst": burst,
    }


def full_report(
    client: dict[str, Any],
    drain: Drain,
    statuses: Sequence[PoolStatus],
    *,
    audit: AuditResult,
    durability: Durability,
    target: float,
    allowed: float | None,
    plot: str | None,
) -> dict[str, Any]:
    """Adds to the client's report what the database and the auditor say."""
    named_twice = client["burst"]["accepted"] - client["burst"]["accepted_distinct"]
    return {
        **client,
        "durable": durability.durable,
        "drained": len(drain.committed),
        "drain_seconds": _rounded(drain.seconds, 3),
        "rate": rate_figures(drain, target, allowed),
        "workers": worker_range(statuses, drain),
        "lost": audit.lost,
        "duplicated": audit.duplicated + named_twice,
        "oversold": audit.oversold,
        "undersold": audit.undersold,
        "plot": plot,
        "statuses": drain.statuses,
        "durability": {
            "jetstream_sync_always": durability.jetstream_syncs_always,
            "postgres_synchronous_commit": durability.synchronous_commit,
            "postgres_fsync": durability.fsync,
        },
        "audit": {
            "at_rest": audit.at_rest,
            "checks": {
                f"{check.invariant} {check.name}": check.outcome.value.lower() for check in audit.checks
            },
            "violations": [
                {
                    "invariant": v.invariant,
                    "message": v.message,
                    "rows": list(v.rows)[:20],
                    "count": len(v.rows),
                }
                for v in audit.violations
            ],
        },
    }


def rate_figures(drain: Drain, target: float, allowed: float | None) -> dict[str, Any]:
    """Starts are the limiter's moments; commits lag them by the work. `allowed`: the highest R plus its burst."""
    mean = mean_rate(drain.started)
    steady = after_ramp(drain.started, target)
    steady_mean = mean_rate(steady)
    return {
        "target": target,
        "mean": _rounded(mean, 3),
        "error_percent": _rounded(_error_percent(mean, target), 3),
        "max_sliding_second": max_sliding(drain.started),
        "allowed_sliding_second": allowed,
        "after_ramp_mean": _rounded(steady_mean, 3),
        "after_ramp_error_percent": _rounded(_error_percent(steady_mean, target), 3),
        "ramp_seconds": _rounded(steady[0] - min(drain.started), 3) if steady else None,
        "committed_mean": _rounded(mean_rate(drain.committed), 3),
        "committed_max_sliding_second": max_sliding(drain.committed),
    }


def worker_range(statuses: Sequence[PoolStatus], drain: Drain) -> dict[str, int | None]:
    """Workers that ran while orders were drained, the state at the first start included."""
    if not drain.committed or not statuses:
        return {"min": None, "max": None}
    first, last = min(drain.started), max(drain.committed)
    seen = [(s.at, s.workers_current) for s in statuses if s.workers_current is not None]
    before = [workers for at, workers in seen if at <= first][-1:]
    during = before + [workers for at, workers in seen if first < at <= last]
    return {"min": min(during, default=None), "max": max(during, default=None)}


async def read_drain(pool: Any, sale_id: str) -> Drain:
    """From the stable view, so that another auditor reads the same."""
    rows = await pool.fetch(
        "select status, extract(epoch from accepted_at)::float8 as accepted,"
        " extract(epoch from started_at)::float8 as started,"
        " extract(epoch from committed_at)::float8 as committed"
        " from audit_orders where sale_id = $1",
        sale_id,
    )
    statuses: dict[str, int] = {}
    for row in rows:
        statuses[row["status"]] = statuses.get(row["status"], 0) + 1
    return Drain(
        accepted=[row["accepted"] for row in rows],
        started=[row["started"] for row in rows],
        committed=[row["committed"] for row in rows],
        statuses=statuses,
    )


async def read_durability(pool: Any, js: JetStream) -> Durability:
    """Asks the servers themselves. What a server refuses to tell stays None."""
    try:
        syncs: bool | None = await js.is_durable(STREAMS)
    except (PeakclipError, UnavailableError, OutcomeUnknownError):
        syncs = None
    try:
        commit = await pool.fetchval("show synchronous_commit")
        fsync = await pool.fetchval("show fsync")
    except DATABASE_AWAY:
        commit = fsync = None
    return Durability(syncs, commit, fsync)


def _error_percent(mean: float | None, target: float) -> float | None:
    return None if mean is None or target <= 0 else (mean - target) / target * 100


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
