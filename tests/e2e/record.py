"""Figures that a run measured: shown, and kept as JSON in the folder that PEAKCLIP_E2E_RESULTS names."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def results() -> Path | None:
    folder = os.environ.get("PEAKCLIP_E2E_RESULTS")
    if not folder:
        return None
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder)


def measured(name: str, figures: Mapping[str, Any], story: list[str] | None = None) -> None:
    print(f"MEASURED {name} {json.dumps(figures)}", flush=True)
    if (folder := results()) is not None:
        (folder / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")
        if story:
            (folder / f"{name}.txt").write_text("\n".join(story) + "\n")


def bar(what: str, reached: bool) -> None:
    """How fast a quiet machine of two cores is. It is told either way, and kept with the figures; it fails a test only
    where PEAKCLIP_E2E_BARS=1 says that the machine is quiet. What may never happen is asserted, and not a bar."""
    print(f"BAR {'reached' if reached else 'MISSED'}: {what}", flush=True)
    assert reached or os.environ.get("PEAKCLIP_E2E_BARS") != "1", what
