"""Results as files: `<date>-<kind>.json` with every round, a figure, and a page with the newest of each kind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks import tables
from benchmarks.environment import ROOT
from benchmarks.errors import BenchmarkError

KEPT: Final = ROOT / "benchmarks" / "results"
PROFILE_PAGE: Final = ROOT / "docs" / "explanation" / "accept-profile.md"
_FIGURES: Final = {"accept": tables.accept_figure, "drain": tables.drain_figure}
_HEADINGS: Final = {
    "accept": "Accepting",
    "drain": "Draining",
    "expiry": "Expiry beside accepting",
    "chaos": "When something is away",
    "slow": "Slow connections beside accepting",
    "profile": "Where the time of an accept goes",
}
_BEGIN, _END = "<!-- measured: begin -->", "<!-- measured: end -->"
_HEAD: Final = """\
# Benchmark results

Written by `make bench`; do not edit. The raw results of every round are in the JSON files beside this page.

Designs are measured in turn, round after round, by one load client in a process of its own. Ratios are taken within
a round: what runs side by side suffers alike from a slow disk or a busy neighbour. Every run is checked: as many
orders are stored as were accepted.

- **a**: order, event and conditional stock in one transaction per request, `synchronous_commit` on, over asyncpg's pool
  as it comes (10 connections in each process, reset after use). **a'** is the same with the number of connections
  that proved fastest and no reset; **a''** writes the same rows like that with one statement in one round trip.
- **b**, **c**: one JetStream message per request with its message id, without stock; b on a server with the default
  `sync_interval` of two minutes, c with `always`.
- **d**: `peakclip api` with everything on, and the relay beside it.
- **e**: reads the request, answers 202: no credential, no validation, nothing stored.

a to d check credential, customer, idempotency key, body, sale and window with the same functions. Of d's HTTP the
express lane is a part (`peakclip_api/express.py`); a to c and e are ordinary aiohttp handlers.
"""


def write(kind: str, result: Mapping[str, Any], folder: Path) -> list[Path]:
    """The result, its figure and the page. Overwrites what was measured on the same day."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result['at'][:10]}-{kind}.json"
    path.write_text(to_text(result))
    written = [path]
    if kind in _FIGURES:
        figure = path.with_suffix(".svg")
        figure.write_text(_FIGURES[kind](result))
        written.append(figure)
    page = folder / "README.md"
    page.write_text(page_of(folder))
    return [*written, page]


def to_text(result: Mapping[str, Any]) -> str:
    """JSON for people and for `git diff`: one line per run, everything else indented."""
    plain = json.dumps({**result, "rounds": "@rounds", "half_load_rounds": "@half"}, indent=1)
    for mark, name in (("@rounds", "rounds"), ("@half", "half_load_rounds")):
        rows = ",\n  ".join(json.dumps(row) for row in result.get(name, []))
        plain = plain.replace(f'"{mark}"', f"[\n  {rows}\n ]" if rows else "[]")
    return plain + "\n"


def page_of(folder: Path) -> str:
    """The newest result of each kind in the folder."""
    parts = [_HEAD]
    for kind, heading in _HEADINGS.items():
        newest = max(folder.glob(f"*-{kind}.json"), default=None)
        if newest is None:
            continue
        result = json.loads(newest.read_text())
        tuned = f" {tables.tuned(result)}" if kind == "accept" else ""
        figure = f"![{heading}]({newest.stem}.svg)\n\n" if kind in _FIGURES else ""
        parts.append(
            f"## {heading}\n\n{figure}{tables.summary(kind, result)}\n\n"
            f"[{newest.name}]({newest.name}): {tables.about(result)}{tuned}\n"
        )
    if len(parts) == 1:
        parts.append("Nothing has been measured yet.\n")
    return "\n".join(parts)


def fill_profile_page(result: Mapping[str, Any], page: Path = PROFILE_PAGE) -> None:
    """Puts the measured table between the marks of the page that explains it."""
    text = page.read_text()
    if _BEGIN not in text or _END not in text:
        raise BenchmarkError(f"{page} has no place for the table: {_BEGIN} … {_END}.")
    before, _, rest = text.partition(_BEGIN)
    after = rest.partition(_END)[2]
    table = f"{tables.profile_table(result)}\n\n{tables.about(result)}"
    page.write_text(f"{before}{_BEGIN}\n{table}\n{_END}{after}")
