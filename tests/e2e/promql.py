"""Which metrics an expression rests on: no parser, but enough for the ones that are written here."""

from __future__ import annotations

import re


def metric_names(expression: str) -> set[str]:
    """Names of Peakclip's metrics and recorded series; those inside strings and label lists are none."""
    bare = re.sub(r"\{[^}]*\}", "", re.sub(r'"[^"]*"', '""', expression))
    return set(re.findall(r"\bpeakclip[:_][a-zA-Z0-9_:]+", bare))
