"""Dead letters after their death: seen, sent back to work, or given up. Who writes them is the worker's business.

`letter` knows what a dead letter is, what sending it back means and what is lost with it (pure: no clock, no I/O);
`desk` does it, on PostgreSQL and JetStream.
"""

from __future__ import annotations

from peakclip.dead_letters.desk import Desk, Done
from peakclip.dead_letters.letter import CannotRedriveError, Letter, redriven, what_is_lost

__all__ = ["CannotRedriveError", "Desk", "Done", "Letter", "redriven", "what_is_lost"]
