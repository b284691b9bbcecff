"""Random walks over three sessions: after every step the model has answered, waits and holds what PostgreSQL does."""

from __future__ import annotations

import os
from typing import Any

import asyncpg
import pytest
from simulation.database.places import ModelPlace, ServerPlace
from simulation.database.wandering import Walk

FIRST = int(os.environ.get("PEAKCLIP_WALKS_FROM", "0"))
WALKS = int(os.environ.get("PEAKCLIP_WALKS", "12"))
STEPS = 60


@pytest.mark.integration
@pytest.mark.parametrize("seed", range(FIRST, FIRST + WALKS))
async def test_a_walk(seed: int, fresh_database_url: str, database: Any) -> None:
    connections = [await asyncpg.connect(fresh_database_url) for _ in range(3)]
    try:
        real = Walk(seed)
        await real.go(ServerPlace(database, connections), STEPS)
        model = Walk(seed)
        await model.go(ModelPlace(), STEPS)
        for number, (seen, expected) in enumerate(zip(model.seen, real.seen, strict=True)):
            assert seen == expected, f"step {number} of {seed}"
    finally:
        for connection in connections:
            await connection.close()
