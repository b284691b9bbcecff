"""How long an order waits in line, and who is told to come again because that is too long.

Worked numbers: 20 orders wait, 2/s are drained, and at most 10 s are promised. The next one would wait for 10.5 s: 429,
`Retry-After: 1`.
"""

from __future__ import annotations

import math

from peakclip_api.board import Board
from peakclip_api.line import Follower, Line
from peakclip_api.problems import Problem


class Wait:
    """By the rate now in force. Unknown or stopped is None, and refuses nobody."""

    def __init__(self, line: Line, follower: Follower, board: Board, longest_seconds: float | None) -> None:
        self._line = line
        self._follower = follower
        self._board = board
        self._longest_seconds = longest_seconds

    def seconds(self, position: int) -> float | None:
        """Until the order at this place in line is in the database."""
        status = self._board.latest("orders")
        if status is None or status.paused or status.effective_per_second <= 0:
            return None
        return round(position / status.effective_per_second, 2)

    def check(self, in_flight: int) -> None:
        """Raises Problem 429 where a new order, behind `in_flight` that are being stored, would wait for too long."""
        longest = self._longest_seconds
        if longest is None:
            return
        wait = self.seconds(self._line.waiting + in_flight + 1)
        if wait is None or wait <= longest:
            return
        self._follower.asked()  # where nobody is let in, the line's length must be learnt all the same
        raise Problem(
            429,
            "line-too-long",
            f"An order would wait for {wait:.0f} s, and at most {longest:g} s are promised.",
            headers={"Retry-After": str(math.ceil(wait - longest))},
        )
