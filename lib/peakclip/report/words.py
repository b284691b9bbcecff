"""The report in plain sentences, and the verdict. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from peakclip.messages import PoolStatus

_HARMS = ("lost", "duplicated", "oversold", "undersold")


def burst_words(report: Mapping[str, Any]) -> str:
    """'10,000 of 10,000 orders accepted in 0.87 s (p50 18 ms, p99 41 ms); ...' One line."""
    burst = report["burst"]
    how = {True: " durably", False: ", NOT durably,", None: ""}[report["durable"]]
    words = f"{report['accepted']:,} of {burst['orders']:,} orders accepted{how}"
    if report["accept_seconds"] is not None:
        words += f" in {report['accept_seconds']:.2f} s"
    if report["accept_p50_ms"] is not None:
        words += f" (p50 {report['accept_p50_ms']:.0f} ms, p99 {report['accept_p99_ms']:.0f} ms)"
    refused = ", ".join(f"{count:,} {name}" for name, count in report["refused"].items())
    words += f"; refused: {refused}" if refused else ""
    words += f"; {report['errors']:,} without a final answer" if report["errors"] else ""
    if burst["retries"]:
        causes = ", ".join(f"{count:,} {name}" for name, count in burst["error_causes"].items())
        words += f"; {burst['retries']:,} asked again with the same key ({causes})"
    return words + f". {burst['connections']:,} connections were open before the clock started."


def drain_words(report: Mapping[str, Any]) -> str:
    rate = report["rate"]
    if rate["mean"] is None:
        return f"{report['drained']:,} orders reached the database: too few to tell a rate."
    allowed = rate["allowed_sliding_second"]
    return (
        f"Drained {report['drained']:,} in {report['drain_seconds']:.1f} s: {rate['mean']:.1f}/s on average "
        f"(R = {rate['target']:g}/s, {rate['error_percent']:+.2f} %); most started in any second: "
        f"{rate['max_sliding_second']:,} ({'bound unknown' if allowed is None else f'allowed {allowed:,g}'})."
        + _ramp_words(rate)
    )


def _ramp_words(rate: Mapping[str, Any]) -> str:
    """Only where the start-up is what kept the mean below R."""
    if not rate["ramp_seconds"] or rate["after_ramp_mean"] is None or rate["error_percent"] >= -1:
        return ""
    return f" Once enough workers ran, after {rate['ramp_seconds']:.1f} s, it was {rate['after_ramp_mean']:.1f}/s."


def worker_words(statuses: Sequence[PoolStatus]) -> str:
    """'Workers 1 -> 6 -> 1': the beginning, the most, the end."""
    if not statuses:
        return "Workers: unknown, the controller was not heard."
    counts = [s.workers_current for s in statuses if s.workers_current is not None]
    if not counts:
        return "Workers: unknown, the controller did not see them."
    return f"Workers {counts[0]} → {max(counts)} → {counts[-1]}."


def audit_words(report: Mapping[str, Any]) -> list[str]:
    lines = [", ".join(f"{name} {report[name]:,}" for name in _HARMS).capitalize() + "."]
    if not report["audit"]["at_rest"]:
        lines.append("The system did not come to rest in time, so the stock on offer could not be checked.")
    lines += [
        f"VIOLATED, invariant {v['invariant']}: {v['message']} ({v['count']:,} rows)"
        for v in report["audit"]["violations"]
    ]
    return lines


def durability_words(report: Mapping[str, Any]) -> str:
    told = report["durability"]
    return (
        f"Read back from the servers: JetStream syncs every write: {_yes(told['jetstream_sync_always'])}; "
        f"PostgreSQL fsync {told['postgres_fsync'] or 'unknown'}, "
        f"synchronous_commit {told['postgres_synchronous_commit'] or 'unknown'}."
    )


def failures(report: Mapping[str, Any], *, stock: int) -> list[str]:
    """Why the run counts as failed, one sentence each; empty: everything was kept.

    A burst is accepted in full when all that there was stock for was accepted, and the others were told so.
    """
    wanted = min(stock, report["burst"]["orders"])
    rate = report["rate"]
    found = []
    if report["accepted"] < wanted or report["errors"]:
        found.append(f"The burst was not accepted in full: {report['accepted']:,} of {wanted:,}.")
    if set(report["refused"]) - {"sold-out"}:
        found.append("Orders were refused for another reason than stock.")
    if report["durable"] is not True:
        found.append("The servers did not confirm that every accepted order was on disk.")
    if report["drained"] < report["accepted"]:
        found.append(
            f"Only {report['drained']:,} of {report['accepted']:,} accepted orders reached the database."
        )
    most, allowed = rate["max_sliding_second"], rate["allowed_sliding_second"]
    if most is not None and allowed is not None and most > allowed:
        found.append(f"{most:,} orders started within one second, more than R + burst.")
    if any(report[name] for name in _HARMS) or report["audit"]["violations"]:
        found.append("The audit found violations.")
    return found


def plot_title(report: Mapping[str, Any]) -> str:
    answered = report["accepted"] + sum(report["refused"].values())
    some = f"{answered:,} orders answered" if report["refused"] else f"{report['accepted']:,} orders accepted"
    title = some + (f" in {report['accept_seconds']:.2f} s" if report["accept_seconds"] is not None else "")
    if report["refused"]:
        title += f", {report['accepted']:,} accepted"
    if report["rate"]["mean"] is not None:
        title += f", drained at {report['rate']['mean']:.1f}/s"
    return title


def plot_subtitle(report: Mapping[str, Any], statuses: Sequence[PoolStatus]) -> str:
    rate = report["rate"]
    parts = (
        [] if rate["max_sliding_second"] is None else [f"max {rate['max_sliding_second']:,} in any second"]
    )
    parts.append(worker_words(statuses).rstrip(".").replace("Workers", "workers"))
    parts.append(", ".join(f"{name} {report[name]:,}" for name in _HARMS))
    return " · ".join(parts)


def _yes(told: bool | None) -> str:
    return {True: "yes", False: "NO", None: "unknown"}[told]
