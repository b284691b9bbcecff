"""What a run looks like while it runs: at a terminal a picture that is redrawn, elsewhere a line now and then.

`View` is what is known; `plain_line` and `picture` turn it into text and are pure. `Display` is the edge.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import click

from peakclip.load import Progress
from peakclip.messages import PoolStatus

if TYPE_CHECKING:
    from rich.table import Table

_SPARKS: Final = "▁▂▃▄▅▆▇█"
_PLAIN_EVERY: Final = 5.0  # seconds between lines where nothing can be redrawn
_RATES_KEPT: Final = 120  # seconds


@dataclass(slots=True)
class View:
    """What is known of a run so far. None: not known yet."""

    orders: int
    limit: float  # R as asked for; the controller's word wins as soon as it is heard
    phase: str = "Starting"
    url: str = ""
    burst: Progress | None = None
    burst_words: str = ""  # once it is over
    accepted: int | None = None
    drained: int = 0
    rates: deque[float] = field(default_factory=lambda: deque(maxlen=_RATES_KEPT))  # drained per second
    status: PoolStatus | None = None

    @property
    def waiting(self) -> int | None:
        """Accepted and not in the database yet."""
        return None if self.accepted is None else max(0, self.accepted - self.drained)

    @property
    def effective_limit(self) -> float:
        return self.limit if self.status is None else self.status.limit_per_second

    @property
    def eta_seconds(self) -> float | None:
        """To an empty queue at the rate of the last seconds; None: unknown, or never."""
        recent = list(self.rates)[-5:]
        rate = sum(recent) / len(recent) if recent else 0.0
        return self.waiting / rate if self.waiting is not None and rate > 0 else None


def sparkline(values: Sequence[float], top: float, width: int) -> str:
    """The last `width` values as bars; `top` is three quarters of the height, so that an excess would show."""
    if top <= 0:
        return ""
    heights = (round(0.75 * value / top * (len(_SPARKS) - 1)) for value in list(values)[-width:])
    return "".join(_SPARKS[max(0, min(len(_SPARKS) - 1, height))] for height in heights)


def gauge(share: float, width: int) -> str:
    """A bar of `width` characters, filled to `share` (0 to 1)."""
    full = round(max(0.0, min(1.0, share)) * width)
    return "━" * full + "╌" * (width - full)


def duration(seconds: float | None) -> str:
    """'47 s', '3 min 05 s', '?'"""
    if seconds is None:
        return "?"
    whole = round(seconds)
    return f"{whole} s" if whole < 120 else f"{whole // 60} min {whole % 60:02} s"


def plain_line(view: View) -> str:
    """All of it in one line, for logs and pipes."""
    parts = [view.phase]
    if view.accepted is None and view.burst is not None:
        parts.append(f"{view.burst.accepted + view.burst.refused:,} of {view.orders:,} answered")
    if view.waiting is not None:
        parts.append(f"backlog {view.waiting:,}")
        parts.append(f"drained {view.drained:,}")
    if view.rates and view.waiting:
        parts.append(f"{view.rates[-1]:,.0f}/s of {view.effective_limit:g}/s")
    if view.status is not None:
        now, wanted = view.status.workers_current, view.status.workers_desired
        parts.append(f"workers {_number(now)} (wanted {_number(wanted)})")
    if view.waiting and view.eta_seconds is not None:
        parts.append(f"{duration(view.eta_seconds)} left")
    return " · ".join(parts)


def picture(view: View, width: int) -> Table:
    """The same as rows: name, bar, words. Colours are the terminal's own, so light and dark both work."""
    from rich.table import Table
    from rich.text import Text

    bar = max(10, min(44, width - 50))
    table = Table.grid(padding=(0, 2))
    table.add_column(width=8, style="bold")
    table.add_column(width=bar, no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    rows = [("burst", "yellow", *_burst(view, bar)), ("backlog", "magenta", *_backlog(view, bar))]
    rows += [("drain", "blue", *_drain(view, bar)), ("workers", "green", *_workers(view, bar))]
    for name, colour, drawn, words in rows:
        table.add_row(name, Text(drawn, style=colour), words)
    table.add_row("", Text(view.phase, style="dim"), Text(view.url, style="dim"))
    return table


def _burst(view: View, width: int) -> tuple[str, str]:
    if view.accepted is not None:
        return gauge(1.0, width), view.burst_words
    if view.burst is None:
        return gauge(0.0, width), f"{view.orders:,} orders, not sent yet"
    done = view.burst.accepted + view.burst.refused
    return gauge(done / view.orders, width), f"{done:,} of {view.orders:,} answered"


def _backlog(view: View, width: int) -> tuple[str, str]:
    if view.waiting is None:
        return gauge(0.0, width), ""
    oldest = view.status.oldest_seconds if view.status else None
    age = f", the oldest for {duration(oldest)}" if view.waiting and oldest is not None else ""
    return gauge(view.waiting / max(1, view.accepted or 1), width), f"{view.waiting:,} waiting{age}"


def _drain(view: View, width: int) -> tuple[str, str]:
    limit = view.effective_limit
    paused = " PAUSED" if view.status is not None and view.status.paused else ""
    if not view.rates:
        return " " * width, f"R = {limit:g}/s{paused}"
    left = f", {duration(view.eta_seconds)} left" if view.waiting else ""
    return sparkline(view.rates, limit, width).ljust(
        width
    ), f"{view.rates[-1]:,.0f}/s of {limit:g}/s{left}{paused}"


def _workers(view: View, width: int) -> tuple[str, str]:
    if view.status is None:
        return " " * width, "not heard of yet"
    now, wanted = view.status.workers_current, view.status.workers_desired
    if now is None or wanted is None:
        return " " * width, f"unknown: {view.status.reason}"
    dots = ("●" * min(now, wanted) + "○" * max(0, wanted - now) + "◌" * max(0, now - wanted))[:width]
    why = f": {view.status.reason}" if view.status.reason else ""
    return dots.ljust(width), f"{now} running, {wanted} wanted{why}"


def _number(value: int | None) -> str:
    return "unknown" if value is None else str(value)


class Display:
    """Shows a `View`. Without a terminal, or without rich, it prints lines."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._console: Any = None
        self._live: Any = None
        self._next_line = 0.0
        self._last_phase = ""
        try:
            from rich.console import Console

            console = Console(highlight=False)
            if console.is_terminal and not console.is_dumb_terminal:
                self._console = console
        except ImportError:  # the extra `local` is not installed
            pass

    def __enter__(self) -> Self:
        if self._console is not None:
            from rich.live import Live

            # Redrawn only on request: a drawing thread would take CPU from the burst.
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Takes the picture away, so that what comes next stands alone."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def show(self) -> None:
        """Draws the view as it is now; as a line only when the phase is new or the last line is old."""
        if self._live is not None:
            self._live.update(picture(self.view, self._console.width), refresh=True)
            return
        now = time.monotonic()
        if self._console is None and (now >= self._next_line or self.view.phase != self._last_phase):
            self._next_line, self._last_phase = now + _PLAIN_EVERY, self.view.phase
            click.echo(plain_line(self.view))

    def say(self, words: str) -> None:
        """A line that stays."""
        if self._live is not None:
            self._live.console.print(words, markup=False)
        else:
            click.echo(words)
