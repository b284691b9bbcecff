"""The invariants, one function each, over facts. Nothing here reads a clock or a server.

To add a check: write a function `(Facts) -> CheckResult` in a module of this package, put it into `CHECKS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from peakclip.audit.checks.failures import check_dead_letters
from peakclip.audit.checks.orders import check_orders
from peakclip.audit.checks.rate import check_rate
from peakclip.audit.checks.stock import check_admission, check_limits, check_stock
from peakclip.audit.facts import Facts
from peakclip.audit.result import AuditResult, CheckResult


def check_payments(_: Facts) -> CheckResult:
    """4: needs the payments, which do not exist yet."""
    return CheckResult(4, "payment against expiry", not_checked="no payments yet")


def check_effects(_: Facts) -> CheckResult:
    """5: needs the effects, which do not exist yet."""
    return CheckResult(5, "effects happen once", not_checked="no effects yet")


CHECKS: Final[tuple[Callable[[Facts], CheckResult], ...]] = (
    check_orders,
    check_stock,
    check_admission,
    check_limits,
    check_payments,
    check_effects,
    check_dead_letters,
    check_rate,
)


def judge(facts: Facts) -> AuditResult:
    """Every check over the same facts."""
    return AuditResult(tuple(check(facts) for check in CHECKS), facts.at_rest)
