"""The load client: bursts and steady load over HTTP/1.1, cheap enough to share its machine with the server.

`http.py` is pure bytes, `outcome.py` is pure arithmetic, only `driver.py` has sockets and a clock.
Knows the HTTP contract and nothing of NATS or PostgreSQL: what it reports is what a customer saw.
"""

from __future__ import annotations

from peakclip.load.outcome import LoadOptions, LoadResult, Progress
from peakclip.load.run import run_load

__all__ = ["LoadOptions", "LoadResult", "Progress", "run_load"]
