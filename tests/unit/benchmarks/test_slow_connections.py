from __future__ import annotations

from typing import Any

from benchmarks.slow_connections import summary
from benchmarks.tables import slow_table


def rounds(*pairs: tuple[float, float]) -> list[dict[str, Any]]:
    return [
        {
            "round": number,
            "state": state,
            "p50_ms": p99 / 4,
            "p99_ms": p99,
            "held": held,
            "ended": held,
            "cpu_us_per_order": {"api": 50.0 + held / 100},
        }
        for number, both in enumerate(pairs, start=1)
        for state, p99, held in zip(("without", "with"), both, (0, 1_000), strict=True)
    ]


def test_the_ratio_is_taken_within_each_round() -> None:
    found = summary(rounds((10.0, 11.0), (40.0, 40.0), (20.0, 24.0)))
    assert found["p99_ratio"]["per_round"] == [1.1, 1.0, 1.2]
    assert found["p99_ratio"]["median"] == 1.1
    assert found["p50_ratio"]["median"] == 1.1
    assert found["cpu_ratio"]["per_round"] == [1.2, 1.2, 1.2]


def test_every_round_is_in_the_table() -> None:
    some = rounds((10.0, 11.0), (40.0, 40.0))
    options = {"slow_rate": 1_000.0, "slow_clients": 64, "slow_connections": 1_000}
    table = slow_table({"options": options, "rounds": some, **summary(some)})
    assert "| 2 | with | 10.0 | 40.0 | 60 | 1,000 | 1,000 |" in table
    assert "| p99 | **1.05** | 1.00 to 1.10 |" in table
    assert "| CPU time of the API | **1.20** |" in table
