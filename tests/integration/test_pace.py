"""The pace as it is written: on a real nats-server, by several at once, and when the answer is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from peakclip import topology
from peakclip.errors import OutcomeUnknownError, PeakclipError, RefusedError, SettingsError, UnavailableError
from peakclip.jetstream import WRONG_LAST_SEQUENCE, JetStream
from peakclip.limiter.pace import Pace, Share, read_pace, set_pace, set_share

pytestmark = pytest.mark.integration

POOL = "orders"


async def test_set_pace_is_compare_and_set(js: JetStream) -> None:
    await set_pace(js, POOL, limit_per_second=100)
    rates = [float(rate) for rate in range(101, 109)]
    await asyncio.gather(*(set_pace(js, POOL, limit_per_second=rate) for rate in rates))
    found = await read_pace(js, POOL)
    assert found is not None
    pace, _ = found
    # Nobody's change was lost: each has its step, in the order in which they were written.
    assert sorted(step.rate_per_second for step in pace.steps) == [100.0, *rates]
    assert pace.steps[-1].rate_per_second == pace.limit_per_second


async def test_set_pace_on_a_server_without_tickets_makes_them(js: JetStream) -> None:
    await js._api(f"STREAM.DELETE.{topology.TICKETS}")
    pace = await set_pace(js, POOL, limit_per_second=100)
    assert await _read(js) == pace


async def test_nothing_new_is_not_written(js: JetStream) -> None:
    await set_pace(js, POOL, limit_per_second=100)
    _, revision = await read_pace(js, POOL) or (None, 0)
    await set_pace(js, POOL, limit_per_second=100, paused=False)
    assert (await read_pace(js, POOL) or (None, 0))[1] == revision


async def test_nonsense_is_refused_and_nothing_is_written(js: JetStream) -> None:
    refused: list[Callable[[], Awaitable[Any]]] = [
        lambda: set_pace(js, POOL, limit_per_second=0),
        lambda: set_pace(js, POOL, paused=True),  # there is no rate yet
        lambda: set_pace(js, POOL, limit_per_second=100, burst=1),
    ]
    for attempt in refused:
        with pytest.raises(SettingsError):
            await attempt()
    assert await read_pace(js, POOL) is None


async def test_every_word_of_a_change_arrives(js: JetStream) -> None:
    await set_pace(js, POOL, limit_per_second=100, burst=9)
    lowered = await set_pace(js, POOL, effective_per_second=60)
    assert (lowered.limit_per_second, lowered.burst, lowered.effective_per_second) == (100, 9, 60)
    paused = await set_pace(js, POOL, paused=True)
    assert (paused.paused, paused.effective_per_second) == (True, 0)
    shared = await set_pace(js, POOL, paused=False, share=Share("r", 30))
    assert (shared.share, shared.effective_per_second) == (Share("r", 30), 30)
    kept = await set_pace(js, POOL, limit_per_second=50)
    assert (kept.share, kept.effective_per_second) == (Share("r", 30), 30), "a share ends when it is said"
    alone = await set_pace(js, POOL, alone=True)
    assert (alone.share, alone.effective_per_second) == (None, 50)
    assert await _read(js) == alone


async def test_a_pace_that_was_removed_is_none(js: JetStream) -> None:
    await set_pace(js, POOL, limit_per_second=100)
    await js.publish(f"$KV.{topology.PACE}.{POOL}", b"", headers={"KV-Operation": "DEL"})
    assert await read_pace(js, POOL) is None


async def test_a_share_voids_every_write_that_is_on_its_way(js: JetStream) -> None:
    """Also the same share again: a revision that another had read is not the newest any more."""
    await set_pace(js, POOL, limit_per_second=100, share=Share("r", 40))
    pace, revision = await read_pace(js, POOL) or _none()
    again = await set_share(js, POOL, pace, revision, Share("r", 40))
    assert (again.share, again.effective_per_second) == (Share("r", 40), 40)
    assert len(again.steps) == len(pace.steps) + 1
    assert await _read(js) == again
    with pytest.raises(RefusedError) as refused:
        await set_share(js, POOL, pace, revision, Share("r", 20))
    assert refused.value.code == WRONG_LAST_SEQUENCE
    pace, revision = await read_pace(js, POOL) or _none()
    less = await set_share(js, POOL, pace, revision, Share("r", 20))
    assert less.effective_per_second == 20


async def test_a_write_whose_answer_is_lost_is_looked_for(
    js: JetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = js.kv_put, []

    async def lost(*args: Any, **more: Any) -> int:
        written.append(await write(*args, **more))
        raise OutcomeUnknownError

    monkeypatch.setattr(js, "kv_put", lost)
    pace = await set_pace(js, POOL, limit_per_second=100)
    assert (pace.limit_per_second, len(written)) == (100, 1)


async def test_others_who_never_stop_changing_it_are_an_error(
    js: JetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    await set_pace(js, POOL, limit_per_second=100)
    write, tried = js.kv_put, 0

    async def late(bucket: str, key: str, value: bytes, *, revision: int) -> int:
        nonlocal tried
        tried += 1
        found = await js.kv_get(bucket, key)
        assert found is not None
        await write(bucket, key, found[0])  # somebody else was faster
        return await write(bucket, key, value, revision=revision)

    monkeypatch.setattr(js, "kv_put", late)
    with pytest.raises(PeakclipError, match="orders could not be written: others keep changing it"):
        await set_pace(js, POOL, limit_per_second=200)
    assert tried == 20
    kept = await _read(js)
    assert kept is not None
    assert kept.limit_per_second == 100


async def test_a_server_without_streams_says_who_makes_them(js: JetStream) -> None:
    for name in (topology.TICKETS, f"KV_{topology.PACE}"):
        await js._api(f"STREAM.DELETE.{name}")
    with pytest.raises(UnavailableError, match="peakclip migrate"):
        await set_pace(js, POOL, limit_per_second=100)


async def _read(js: JetStream) -> Pace | None:
    found = await read_pace(js, POOL)
    return found and found[0]


def _none() -> tuple[Pace, int]:
    raise AssertionError("there is no pace")
