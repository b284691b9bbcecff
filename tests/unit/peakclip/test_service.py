"""A process ends when it is asked to."""

from __future__ import annotations

import asyncio

import pytest

from peakclip.service import Service


async def test_a_side_task_that_drops_its_first_cancellation_ends_at_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("peakclip.service.CANCEL_AGAIN_SECONDS", 0.0)
    service, asked = Service(), 0

    async def deaf_once() -> None:
        nonlocal asked
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                asked += 1
                if asked > 1:
                    raise

    task = service.spawn("deaf", deaf_once())
    await asyncio.sleep(0)
    await service.cancel_side_tasks()
    assert (task.cancelled(), asked, service.failure) == (True, 2, None)
