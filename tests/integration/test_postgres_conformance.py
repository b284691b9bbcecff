"""What the simulation's model of PostgreSQL does is what a real one does: each scenario runs on both."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
from simulation.database.places import ModelPlace, ServerPlace
from simulation.database.scenes import SCENES, Scene

each = pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)


@each
async def test_on_the_model(scene: Scene) -> None:
    await scene(ModelPlace())


@pytest.mark.integration
@each
async def test_on_postgresql(scene: Scene, fresh_database_url: str, database: Any) -> None:
    connections = [await asyncpg.connect(fresh_database_url) for _ in range(2)]
    try:
        await scene(ServerPlace(database, connections))
    finally:
        for connection in connections:
            await connection.close()
