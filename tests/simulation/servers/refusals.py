"""PURE. Why JetStream refuses, by its own codes; those that the port knows by name are its own."""

from __future__ import annotations

from typing import Final

TOO_LARGE: Final = 10054
FULL: Final = 10077
NO_COUNTERS: Final = 10168
NO_INCREMENT: Final = 10169
INCREMENT_WITH_PAYLOAD: Final = 10170
WRONG_INCREMENT: Final = 10171
NO_BATCHES: Final = 10174
INCOMPLETE_BATCH: Final = 10176
NO_SCHEDULES: Final = 10188
WRONG_SCHEDULE: Final = 10189
WRONG_TARGET: Final = 10190
TOO_LARGE_BATCH: Final = 10199


class RefusalError(Exception):
    """The server's code, and its words."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code
        self.words = words
