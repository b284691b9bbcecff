"""`python -m peakclip`: the same as the command `peakclip`, whatever is on the PATH."""

from __future__ import annotations

from peakclip.cli.main import run

run()
