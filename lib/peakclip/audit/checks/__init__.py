"""The invariants, one function each, over facts. Nothing here reads a clock or a server.

To add a check: write a function `(Facts) -> CheckResult` in a module of this package, put it into `CHECKS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from peakclip.audit.checks.effects import check_effects, check_events
from peakclip.audit.checks.failures import check_dead_letters
from peakclip.audit.checks.orders import check_orders
from peakclip.audit.checks.payments import check_payments
from peakclip.audit.checks.rate import check_rate
from peakclip.audit.checks.stock import check_admission, check_limits, check_returns, check_stock
from peakclip.audit.facts import Facts
from peakclip.audit.result import AuditResult, CheckResult

CHECKS: Final[tuple[Callable[[Facts], CheckResult], ...]] = (
    check_orders,
    check_stock,
    check_admission,
    check_limits,
    check_returns,
    check_payments,
    check_events,
    check_effects,
    check_dead_letters,
    check_rate,
)


def judge(facts: Facts) -> AuditResult:
    """Every check over the same facts."""
    return AuditResult(tuple(check(facts) for check in CHECKS), facts.at_rest)
