"""Many queues side by side."""

from __future__ import annotations

import random

import pytest
from click.testing import CliRunner

from peakclip_operator.simulation.cli import command
from peakclip_operator.simulation.partitions import _thrown, partitioned


def test_a_hundred_thousand_orders_over_sixteen_partitions() -> None:
    made = partitioned(100_000, 16, 16_000.0)
    assert made.broken == 0
    assert made.worst_second <= 16_000 * 1.05
    assert made.optimum_seconds == 6.25
    assert made.drain_seconds <= made.most_in_one / 1_000 + 2.0  # the fullest one decides
    assert made.drain_seconds >= made.optimum_seconds
    assert made.most_in_one > 6_250


def test_the_command_tells_of_a_million() -> None:
    result = CliRunner().invoke(command, ["--partitions", "16"])
    assert result.exit_code == 0
    assert result.output.startswith(
        "1,000,000 orders within a second over 16 partitions, 64,000/s together\n"
    )
    assert "promises broken: 0" in result.output


def test_every_order_falls_on_one_partition_and_all_alike() -> None:
    counts = _thrown(random.Random(3), 1_000_000, 64)
    assert sum(counts) == 1_000_000
    assert max(counts) - min(counts) == pytest.approx(6 * 125, rel=0.5)  # some standard deviations each way
    assert _thrown(random.Random(3), 5, 1) == [5]
    assert sum(_thrown(random.Random(3), 3, 64)) == 3
