"""The load client, with a note of when the request was sent whose answer is the last."""

from __future__ import annotations

from typing import Any

from peakclip.load.driver import Connection, Driver


class AttentiveDriver(Driver):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.asked: dict[int, float] = {}  # request -> epoch seconds

    def answered(self, connection: Connection, job: int, response: Any) -> None:
        self.asked[job] = self.started_at + connection.sent_at - self._start
        super().answered(connection, job, response)
