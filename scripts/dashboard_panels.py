"""What the dashboard shows: a row is a list of panels, a panel a list of queries. A new panel is a new line here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

PLACE: Final = 'namespace=~"$namespace", release=~"$release"'
POOL: Final = f'{PLACE}, pool=~"$pool"'
REAPER: Final = f'{PLACE}, pool="reaper"'
HEIGHT: Final = 8


@dataclass(frozen=True)
class Panel:
    title: str
    queries: dict[str, str]  # legend: expression
    unit: str = "short"
    kind: str = "timeseries"
    text: str = ""
    width: int = 8
    height: int = HEIGHT
    steps: tuple[tuple[str, float | None], ...] = ()  # colour, from which value on
    mappings: dict[str, str] = field(default_factory=dict)  # value: what is shown for it


def rate(metric: str, by: str, labels: str) -> str:
    return f"sum by ({by}) (rate({metric}{{{labels}}}[$__rate_interval]))"


def quantile(q: float, histogram: str, labels: str, by: str = "") -> str:
    groups = f"{by}, le" if by else "le"
    return f"histogram_quantile({q}, {rate(histogram + '_bucket', groups, labels)})"


def most(metric: str, labels: str, by: str = "pool") -> str:
    """Of several processes that export the same gauge one is right."""
    return f"max by ({by}) ({metric}{{{labels}}})"


def heat(histogram: str) -> dict[str, str]:
    return {"{{le}}": f"sum by (le) (increase({histogram}_bucket{{{POOL}}}[$__rate_interval]))"}


def percentiles(histogram: str, labels: str, by: str = "") -> dict[str, str]:
    legend = f"{{{{{by}}}}} " if by else ""
    return {f"{legend}p{int(q * 100)}": quantile(q, histogram, labels, by) for q in (0.5, 0.99)}


def figure(title: str, expression: str, unit: str = "short", **more: Any) -> Panel:
    return Panel(title, {title: expression}, unit, kind="stat", width=4, height=4, **more)


BAD_ABOVE_0: Final = (("green", None), ("red", 1.0))
OVERVIEW = [
    figure("Accepted per second", f"sum(rate(peakclip_accept_seconds_count{{{PLACE}}}[$__rate_interval]))", "reqps"),
    figure("Backlog", f"sum(peakclip:backlog_messages{{{POOL}}})"),
    figure("Longest time to an empty queue", f"max(peakclip:eta_seconds{{{POOL}}})", "s",
           text="No value: unknown, or never at this rate."),
    figure("Dead letters", f"sum({most('peakclip_dead_letters', POOL)})", steps=BAD_ABOVE_0),
    figure("Acknowledged is on disk", f"min(peakclip_durable{{{PLACE}}})",
           steps=(("red", None), ("green", 1.0)), mappings={"0": "no", "1": "yes"}),
    figure("Operators that lead", f"sum(peakclip_operator_leader{{{PLACE}}})",
           steps=(("red", None), ("green", 1.0), ("red", 2.0))),
]  # fmt: skip
ACCEPT = [
    Panel("Orders accepted", {"accepted": rate("peakclip_accept_seconds_count", "namespace", PLACE)}, "reqps",
          text="Each of them is on disk. Repeats with the same key count again."),
    Panel("Answers by status", {"{{status}}": rate("peakclip_http_answers_total", "status", PLACE)}, "reqps"),
    Panel("Refused by kind", {"{{kind}}": rate("peakclip_refused_total", "kind", PLACE)}, "reqps",
          text="Sold out is an answer; queue-unavailable is a failure."),
    Panel("From request to durable answer", percentiles("peakclip_accept_seconds", PLACE), "s"),
    Panel("Orders that share one fsync", percentiles("peakclip_commit_batch_orders", PLACE)),
    Panel("Slowest routes, p99",
          {"{{route}}": f"topk(8, {quantile(0.99, 'peakclip_http_seconds', PLACE, 'route')})"}, "s"),
    Panel("Connections of clients", {"open": f"sum(peakclip_http_connections{{{PLACE}}})"}),
    Panel("Connections ended, by reason",
          {"{{reason}}": rate("peakclip_http_connections_ended_total", "reason", PLACE)},
          text="Too slow, too many, or too much that is unfinished or unread."),
]  # fmt: skip
BACKLOG = [
    Panel("Messages not finished", {"{{pool}} {{state}}": most("peakclip_lag_messages", POOL, "pool, state")},
          text="A gap: unknown."),
    Panel("Time to an empty queue", {
        "{{pool}}": f"peakclip:eta_seconds{{{POOL}}}",
        "{{pool}} promised": most("peakclip_catch_up_seconds", POOL),
    }, "s", text="A gap: unknown, or never at this rate."),
    Panel("Arrivals and drain", {
        "{{pool}} arrive": most("peakclip_arrival_per_second", POOL),
        "{{pool}} finished": most("peakclip_drain_per_second", POOL),
    }, "cps"),
]  # fmt: skip
RATE = [
    Panel("Drain against R", {
        "{{pool}} finished": most("peakclip_drain_per_second", POOL),
        "{{pool}} R": most("peakclip_limit_per_second", POOL),
        "{{pool}} R in force": most("peakclip_effective_limit_per_second", POOL),
    }, "cps"),
    Panel("Most starts in any sliding second", {
        "{{pool}} last minute": most("peakclip_starts_recent_max_sliding_second", POOL),
        "{{pool}} since the start": most("peakclip_starts_max_sliding_second", POOL),
        "{{pool}} R and burst": f"{most('peakclip_limit_per_second', POOL)} + {most('peakclip_limit_burst', POOL)}",
    }, text="The line of the last minute stays at or below R and its burst."),
    Panel("Wait for the limiter", percentiles("peakclip_limiter_wait_seconds", POOL, "pool"), "s",
          text="Long waits mean more workers than R needs, not a slow database."),
]  # fmt: skip
WORKERS = [
    Panel("Workers", {
        "{{pool}} {{state}}": most("peakclip_workers", f'{POOL}, state!~"desired|ceiling"', "pool, state"),
    }),
    Panel("Running, wanted, useful", {
        f"{{{{pool}}}} {name}": most("peakclip_workers", f'{POOL}, state="{state}"')
        for state, name in (("running", "running"), ("desired", "wanted"), ("ceiling", "ceiling"))
    }, text="More than the ceiling could only wait for each other's share of R."),
    Panel("Why", {"{{pool}} {{reason}}": f"peakclip:decisions:share5m{{{POOL}}}"}, "percentunit",
          text="Share of the operator's decisions by reason, over five minutes."),
]  # fmt: skip
TIMES = [
    Panel("Queue delay", heat("peakclip_queue_delay_seconds"), "s", kind="heatmap",
          text="From storage in the pool's stream to the start."),
    Panel("Processing", heat("peakclip_processing_seconds"), "s", kind="heatmap",
          text="A batch, from its start to its acknowledgement."),
    Panel("Percentiles", {
        "queue delay " + name: one for name, one in percentiles("peakclip_queue_delay_seconds", POOL, "pool").items()
    } | {"processing " + name: one for name, one in percentiles("peakclip_processing_seconds", POOL, "pool").items()},
          "s"),
]  # fmt: skip
DATABASE = [
    Panel("One statement", percentiles("peakclip_database_seconds", POOL, "pool"), "s"),
    Panel("Wait for a connection", percentiles("peakclip_database_wait_seconds", POOL, "pool"), "s",
          text="More workers than the database has connections for, or connections that are slow to come."),
    Panel("Statements by outcome", {
        "{{pool}} {{outcome}}": rate("peakclip_database_calls_total", "pool, outcome", POOL),
    }, "ops", text="failed: the database was away, unfit or too late."),
    Panel("What lowers the rate", {
        "{{pool}} {{measure}}": most("peakclip_database_health", POOL, "pool, measure"),
    }, text="As the operator saw it in the last 5 s: share of errors, mean wait and 95th percentile in seconds."),
    Panel("More workers brought nothing", {"{{pool}}": most("peakclip_scale_up_blocked", POOL)},
          text="1: so none are added for a while."),
    Panel("Unknown signals", {
        "{{pool}} {{signal}}": most("peakclip_signal_unknown_seconds", POOL, "pool, signal"),
    }, "s", text="For how long; 0: known."),
]  # fmt: skip
FAILURES = [
    Panel("Outcomes", {"{{pool}} {{outcome}}": rate("peakclip_processed_total", "pool, outcome", POOL)}, "cps"),
    Panel("Failed attempts", {"{{pool}}": rate("peakclip_failed_attempts_total", "pool", POOL)}, "cps"),
    Panel("Share of attempts that failed", {
        "{{pool}}": f"peakclip:failed_attempts:share5m{{{POOL}}} >= 0 or 0 * peakclip:limit_per_second{{{POOL}}}",
    }, "percentunit"),
    Panel("Dead letters", {"{{pool}}": most("peakclip_dead_letters", PLACE)}),
    # No channel, no deliveries: then there are none in a second.
    Panel("Webhooks and e-mails", {
        "{{channel}} {{outcome}}": rate("peakclip_deliveries_total", "channel, outcome", PLACE)
        + f" or 0 * max(peakclip_build_info{{{PLACE}}})",
    }, "cps"),
    Panel("One delivery, p99", {
        "{{channel}}": quantile(0.99, "peakclip_delivery_seconds", PLACE, "channel")
        + f" or 0 * max(peakclip_build_info{{{PLACE}}})",
    }, "s"),
]  # fmt: skip
OUTBOX = [
    Panel("Rows in the outbox", {"rows": most("peakclip_outbox_rows", PLACE, "namespace")}),
    Panel("Published", {"rows": rate("peakclip_outbox_published_total", "namespace", PLACE)}, "cps"),
    Panel("Acknowledged is on disk", {"{{store}}": f"min by (store) (peakclip_durable{{{PLACE}}})"},
          text="1: the server says so itself; 0: it does not sync; a gap: it does not tell."),
]  # fmt: skip
EXPIRY = [
    Panel("Expired, or paid meanwhile", {"{{outcome}}": rate("peakclip_processed_total", "outcome", REAPER)}, "cps"),
    Panel("Waiting to expire", {"{{state}}": most("peakclip_lag_messages", REAPER, "state")}),
    Panel("Expiry against its R", {
        "finished": most("peakclip_drain_per_second", REAPER, "namespace"),
        "R": most("peakclip_limit_per_second", REAPER, "namespace"),
    }, "cps"),
]  # fmt: skip
OPERATOR = [
    Panel("Decisions", {"{{pool}} {{reason}}": rate("peakclip_decisions_total", "pool, reason", POOL)}, "cps"),
    Panel("Who leads", {"{{pod}} {{instance}}": f"peakclip_operator_leader{{{PLACE}}}"}),
    Panel("Requests to the API server", {
        "{{verb}} {{resource}} {{code}}": rate("peakclip_operator_api_requests_total", "verb, resource, code", PLACE)
        + f" or 0 * max(peakclip_build_info{{{PLACE}}})",
    }, "reqps", text="None on one machine, where there is no API server."),
    Panel("Processes", {"{{process}} {{version}}": f"count by (process, version) (peakclip_build_info{{{PLACE}}})"}),
]  # fmt: skip
ROWS = {
    "At a glance": OVERVIEW,
    "Accepting": ACCEPT,
    "Backlog": BACKLOG,
    "Rate": RATE,
    "Workers": WORKERS,
    "Times": TIMES,
    "Database, as workers and operator see it": DATABASE,
    "Failures": FAILURES,
    "Outbox and disks": OUTBOX,
    "Expiry (reaper)": EXPIRY,
    "Operator": OPERATOR,
}
