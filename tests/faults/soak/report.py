"""What a soak comes to: one JSON object for machines, and the same in words."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from faults.judge import INTERNAL_ERRORS
from faults.soak.options import Options
from faults.soak.verdict import Verdict
from faults.soak.view import clock

from peakclip.audit.result import Outcome

# SIGTERM may come before a process has done its imports.
_ASKED_TO_END: Final = {"killed by SIGKILL", "killed by SIGTERM", "exit code 143", "exit code 0"}
_WORKERS_END: Final = {0, -signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM}
_SHOWN: Final = 10  # findings in words; the file has more


@dataclass(slots=True)
class Broken:
    """Something that should not be, with its evidence."""

    what: str  # lost, duplicated, extra, oversold, undersold, misordered, …, or who saw it
    subjects: Sequence[str]
    evidence: str


@dataclass(slots=True)
class Report:
    options: Options
    versions: Mapping[str, str]
    started_at: float  # epoch seconds
    load_seconds: float = 0.0
    rest_seconds: float = 0.0  # from the end of the load until nothing was under way
    check_seconds: float = 0.0
    clients: Mapping[str, Any] = field(default_factory=dict)
    orders: Mapping[str, int] = field(default_factory=dict)  # rows by status
    faults: Mapping[str, Any] = field(default_factory=dict)
    chapters: Sequence[Mapping[str, Any]] = ()
    audit: Mapping[str, Any] = field(default_factory=dict)
    harness: Mapping[str, Any] = field(default_factory=dict)  # memory, disk
    broken: list[Broken] = field(default_factory=list)
    number: int = 0  # of findings; more than are in `broken` if one chapter has very many

    @property
    def exit_code(self) -> int:
        return 1 if self.broken or self.number else 0

    def to_json(self) -> dict[str, Any]:
        return {
            "version": 1,
            "started_at": self.started_at,
            "again": self.options.again,
            "options": self.options.told(),
            "versions": dict(self.versions),
            "load_seconds": round(self.load_seconds, 1),
            "rest_seconds": round(self.rest_seconds, 1),
            "check_seconds": round(self.check_seconds, 1),
            "clients": dict(self.clients),
            "orders": dict(self.orders),
            "faults": dict(self.faults),
            "lost": self.audit.get("lost"),
            "duplicated": self.audit.get("duplicated"),
            "oversold": self.audit.get("oversold"),
            "undersold": self.audit.get("undersold"),
            "findings": self.number,
            "broken": [
                {"what": one.what, "subjects": list(one.subjects), "evidence": one.evidence}
                for one in self.broken
            ],
            "chapters": list(self.chapters),
            "audit": dict(self.audit),
            "harness": dict(self.harness),
        }

    def words(self) -> str:
        told = self.to_json()
        rows = sum(self.orders.values())
        accepted = int(self.clients.get("accepted", 0))
        per_second = accepted / self.load_seconds if self.load_seconds else 0.0
        statuses = ", ".join(f"{count:,} {status}" for status, count in self.orders.items())
        lines = [
            "",
            f"{accepted:,} orders accepted in {clock(self.load_seconds)} ({per_second:,.0f}/s), "
            f"{self.faults.get('done', 0):,} faults; at rest after {clock(self.rest_seconds)}, "
            f"checked in {clock(self.check_seconds)}.",
            f"In the database: {rows:,} ({statuses}).",
            f"Clients asked again {int(self.clients.get('retries', 0)):,} times; "
            f"{int(self.clients.get('unknown', 0)):,} outcomes stayed unknown to them.",
            *self._faults_in_words(),
            f"Lost {told['lost']}, duplicated {told['duplicated']}, oversold {told['oversold']}, "
            f"undersold {told['undersold']}.",
            *self._broken_in_words(),
            f"Again with the same faults: {self.options.again}",
        ]
        return "\n".join(lines)

    def _faults_in_words(self) -> list[str]:
        """The longest of each kind; `through` with the fault after which it was."""
        lines = [
            "Faults, and the longest until orders were accepted, committed and through from end to end again:"
        ]
        for kind, of_kind in self.faults.get("kinds", {}).items():
            slowest = of_kind["slowest"]
            took = [f"{step} {one['seconds']:.1f} s" for step, one in slowest.items() if one is not None]
            after = (
                ""
                if slowest["through"] is None
                else f" ({slowest['through']['words'].partition(' after ')[2]})"
            )
            missed = f"; {of_kind['missed']} met nobody" if of_kind["missed"] else ""
            lines.append(f"  {kind:<10} {of_kind['done']:>5}   {', '.join(took) or '?'}{after}{missed}")
        return lines

    def _broken_in_words(self) -> list[str]:
        if not self.exit_code:
            return ["Findings: 0. Whatever was promised was kept."]
        lines = [f"Findings: {max(self.number, len(self.broken)):,}."]
        lines += [f"  {one.what}: {', '.join(one.subjects)}: {one.evidence}" for one in self.broken[:_SHOWN]]
        if len(self.broken) > _SHOWN:
            lines.append("  More of them are in the report.")
        return lines


def of_verdicts(verdicts: Iterable[Verdict]) -> list[Broken]:
    """What is broken in chapters, and what could not be judged."""
    found: list[Broken] = []
    for verdict in verdicts:
        found += [Broken(one.damage, one.subjects, one.evidence) for one in verdict.findings]
        if not verdict.complete:
            found.append(
                Broken("not judged", [verdict.name], "a stream had forgotten some of it before it was read")
            )
    return found


def of_audit(audit: Mapping[str, Any]) -> list[Broken]:
    found = [
        Broken(f"invariant {one['invariant']}", one["rows"], f"{one['message']} ({one['number']})")
        for one in audit["violations"]
    ]
    if not audit["at_rest"]:
        found.append(
            Broken("no rest", audit["why_not"], "something is under way, though nobody asks for anything")
        )
    found += [
        Broken("not judged", [one["name"]], one["detail"])
        for one in audit["checks"]
        if one["outcome"] == Outcome.NOT_CHECKED
    ]
    # Nobody asks for what does not exist, and units are on offer no oftener than they are: all of it can be done.
    if rejected := audit["orders"].get("rejected"):
        found.append(Broken("rejected", [], f"{rejected} orders that were accepted"))
    found += [
        Broken("dead letter", [cause], f"{number} of them") for cause, number in audit["dead_letters"].items()
    ]
    found += [
        Broken("extra", [row["order_id"]], f"{row['status']}, of {row['customer_id']}, whom nobody played")
        for row in audit["strangers"]
    ]
    if audit["events_of_nobody"]:
        evidence = f"{audit['events_of_nobody']} events of customers whom nobody played"
        found.append(Broken("extra", [], evidence))
    return found


def of_trial(faults: int, webhooks: int, causes: Mapping[str, int]) -> list[Broken]:
    """Whether there was a trial at all; and answers that nobody may ever get."""
    found = [
        Broken("not judged", [what], "there was none")
        for what, number in (("faults", faults), ("webhooks", webhooks))
        if not number
    ]
    if wrong := sum(causes.get(name, 0) for name in INTERNAL_ERRORS):
        found.append(Broken("wrong answer", ["500"], f"{wrong} times; what is away for a moment is a 503"))
    return found


def of_ends(ended: Mapping[tuple[str, str], int], worker_codes: set[int]) -> list[Broken]:
    """Processes that ended though nobody had asked them to. PostgreSQL says of a backend's death that it crashed."""
    found = [
        Broken("ended by itself", [name], f"{how}, {times} times")
        for (name, how), times in ended.items()
        if name != "postgres" and how not in _ASKED_TO_END
    ]
    codes = sorted(worker_codes - _WORKERS_END)
    return found + [Broken("ended by itself", ["worker"], f"exit code {code}") for code in codes]
