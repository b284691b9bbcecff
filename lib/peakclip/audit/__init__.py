"""The auditor: finds out from the data alone whether Peakclip kept its promises, the invariants 1 to 7.

`facts` holds what was read, `checks` judges it (pure: no clock, no I/O), `fetch` reads PostgreSQL and
JetStream, `rest` tells when nothing is under way any more, `run` puts them together. Nothing here asks an API
process, a worker or the relay for its own opinion, and nothing here writes.
"""

from __future__ import annotations

from peakclip.audit.facts import Facts, RateLimit
from peakclip.audit.result import AuditResult, CheckResult, Harm, Outcome, Violation
from peakclip.audit.run import audit_system, run_audit

__all__ = [
    "AuditResult",
    "CheckResult",
    "Facts",
    "Harm",
    "Outcome",
    "RateLimit",
    "Violation",
    "audit_system",
    "run_audit",
]
