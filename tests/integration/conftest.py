"""The order business for tests: one API process on clean servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from support import api_process, store_keys
from trade import Shop

from peakclip.jetstream import JetStream


@pytest.fixture
async def shop(js: JetStream, database: Any, nats_url: str, fresh_database_url: str) -> AsyncIterator[Shop]:
    await store_keys(database)
    async with api_process(nats_url, fresh_database_url) as api:
        yield Shop(api, database)
