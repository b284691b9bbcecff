"""Which PostgreSQL needs a new start."""

from __future__ import annotations

import pytest

from peakclip.local.postgres import is_stuck


@pytest.mark.parametrize(
    ("titles", "stuck"),
    [
        (
            [
                "postgres: checkpointer",
                "postgres: walwriter",
                "postgres: peakclip peakclip 127.0.0.1(1) idle",
            ],
            False,
        ),
        (["postgres: checkpointer", "postgres: startup recovering 000000010000000000000001"], False),
        (["postgres: io worker 0", "postgres: checkpointer", "postgres: background writer"], True),
        ([], False),  # it has just begun, or has ended
    ],
)
def test_one_that_neither_serves_nor_recovers_is_stuck(titles: list[str], stuck: bool) -> None:
    assert is_stuck(titles) is stuck
