from __future__ import annotations

import pytest

from peakclip import topology


def _matches(subject: str, wildcards: str) -> bool:
    parts, wanted = subject.split("."), wildcards.split(".")
    return len(parts) == len(wanted) and all(
        want in ("*", part) for part, want in zip(parts, wanted, strict=True)
    )


@pytest.mark.parametrize("pool", topology.POOLS.values(), ids=lambda pool: str(pool.name))
def test_a_pool_gets_every_message_of_its_stream(pool: topology.Pool) -> None:
    """Arrivals are read from the stream: a message that is none of the pool's would be one that never ends."""
    filters = topology.CONSUMERS[pool.stream, pool.name]["filter_subjects"]
    subjects = topology.STREAMS[pool.stream]["subjects"]
    assert [one for one in subjects if not any(_matches(one, wildcards) for wildcards in filters)] == []
