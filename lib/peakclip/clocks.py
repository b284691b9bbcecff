"""The clocks of a process, as one argument: a simulation gives others in their place."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clocks:
    epoch: Callable[[], float] = time.time  # epoch seconds; may be set while the process lives
    steady: Callable[[], float] = time.perf_counter  # seconds; only differences mean anything
