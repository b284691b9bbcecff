"""Why a benchmark has no result."""

from __future__ import annotations

from peakclip.errors import PeakclipError


class BenchmarkError(PeakclipError):
    """A design did not do what it claims, so its speed means nothing."""
