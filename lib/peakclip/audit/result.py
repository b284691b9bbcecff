"""What an audit says: one `CheckResult` per check, and the sums that the report shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Harm(StrEnum):
    """What a violation costs somebody. A violation without a harm is a wrong book-keeping entry."""

    LOST = "lost"  # accepted orders that are neither a row nor waiting
    DUPLICATED = "duplicated"  # orders or units that count more than once
    OVERSOLD = "oversold"  # units held by orders beyond what there was
    UNDERSOLD = "undersold"  # units that nobody has and nobody can buy


class Outcome(StrEnum):
    HOLDS = "holds"
    VIOLATED = "VIOLATED"
    NOT_CHECKED = "not checked"  # never to be read as 'holds'


@dataclass(frozen=True, slots=True)
class Violation:
    invariant: int
    message: str
    rows: Sequence[Any] = ()  # what is wrong, one JSON-able entry each
    harm: Harm | None = None
    units: int = 0  # orders or units harmed; 0 without a harm


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check. `not_checked` says why there was nothing to judge by; then there are no violations."""

    invariant: int
    name: str
    detail: str = ""  # the counts it rests on
    violations: tuple[Violation, ...] = ()
    not_checked: str | None = None

    @property
    def outcome(self) -> Outcome:
        if self.not_checked is not None:
            return Outcome.NOT_CHECKED
        return Outcome.VIOLATED if self.violations else Outcome.HOLDS


@dataclass(frozen=True, slots=True)
class AuditResult:
    checks: tuple[CheckResult, ...]
    at_rest: bool

    @property
    def violations(self) -> list[Violation]:
        return [violation for check in self.checks for violation in check.violations]

    @property
    def lost(self) -> int:
        return self._units(Harm.LOST)

    @property
    def duplicated(self) -> int:
        return self._units(Harm.DUPLICATED)

    @property
    def oversold(self) -> int:
        return self._units(Harm.OVERSOLD)

    @property
    def undersold(self) -> int:
        return self._units(Harm.UNDERSOLD)

    def _units(self, harm: Harm) -> int:
        return sum(violation.units for violation in self.violations if violation.harm is harm)


def violations(
    invariant: int, *found: tuple[str, list[dict[str, Any]], Harm | None], units: int | None = None
) -> tuple[Violation, ...]:
    """One violation for each message that has rows; harm is counted in rows unless `units` is given."""
    return tuple(
        Violation(
            invariant, message, rows, harm, 0 if harm is None else len(rows) if units is None else units
        )
        for message, rows, harm in found
        if rows
    )
