"""A sale's movements: the same as the stream has, each asked for once."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peakclip import topology
from peakclip.jetstream import StoredMessage
from peakclip_worker import stock_log
from peakclip_worker.stock_log import StockLog


class Stream:
    """A movement each second; of our sale those with an even sequence."""

    def __init__(self, last_seq: int) -> None:
        self.last_seq = last_seq
        self.asked: list[int] = []

    async def message_from(self, stream: str, seq: int, subject: str) -> StoredMessage | None:
        assert (stream, subject) == (topology.STOCK, "stock.s1")
        found = seq + seq % 2
        self.asked.append(found)
        if found > self.last_seq:
            return None
        headers = {topology.FRAME_HEADER: f"f{found}", "Nats-Incr": "-1"}
        return StoredMessage(found, subject, b"", headers, float(found))


def log_of(stream: Stream) -> StockLog:
    return StockLog(cast("Any", stream), "stock.s1", lambda message: int(message.headers["Nats-Incr"]))


@pytest.mark.parametrize("most", [2, 10_000])
@given(asked=st.lists(st.tuples(st.integers(1, 40), st.integers(0, 12), st.integers(0, 6)), max_size=12))
def test_whatever_is_asked_it_is_what_the_stream_has(most: int, asked: list[tuple[int, int, int]]) -> None:
    async def ask() -> None:
        stream = Stream(20)
        log = log_of(stream)
        for first, seconds, grows in asked:
            stream.last_seq += grows
            found = await log.between(first, first + seconds)
            ends = min(stream.last_seq + 1, first + seconds)
            assert [one.seq for one in found] == [seq for seq in range(first, ends) if seq % 2 == 0]
            assert all((one.frame_id, one.units) == (f"f{one.seq}", -1) for one in found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stock_log, "MOST_KEPT", most)
        asyncio.run(ask())


async def test_each_movement_is_asked_for_once() -> None:
    stream = Stream(2_000)
    log = log_of(stream)
    for first in [*range(100, 1_000, 10), *range(1_000, 100, -10)]:
        await log.between(first, first + 60.0)
    assert len(stream.asked) == len(set(stream.asked))


async def test_what_lies_between_two_distant_ones_is_not_read() -> None:
    stream = Stream(100_000)
    log = log_of(stream)
    await log.between(10, 20.0)
    await log.between(90_000, 90_010.0)
    assert len(stream.asked) < 20
