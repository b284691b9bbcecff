"""A memory survives as it is; what is of no use is said to be, and nothing of it is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import msgspec
import pytest
import structlog

from peakclip import topology
from peakclip.errors import PeakclipError
from peakclip_operator.memory import LONGEST_SECONDS, VERSION, UnusableMemoryError, decode, encode, lenient
from peakclip_operator.plan import DatabaseTotals, Lag, Memory, Observation, PoolSpec, Totals, decide

OF = "SECKILL/orders on one machine"
NOW = 1_700_000_000.0


def learned(seconds: int = 60) -> Memory:
    """Of a pool in the middle of a backlog."""
    memory = Memory()
    database = DatabaseTotals(0, 0, 0.0, (0, 0), (1.0,))
    for tick in range(2 * seconds):
        done = 50 * tick
        lag = Lag(10_000 - done, 6, 10_000, done - 6, 1.0, redelivered=1, floor_seq=done)
        totals = Totals(done, tick, 2.0 * tick, replace(database, calls=done, took=(done, 0)))
        observation = Observation(lag, totals, 6, ready=6, delayed=2)
        _, memory = decide(PoolSpec(), observation, memory, NOW - seconds + tick / 2)
    return memory


def test_it_comes_back_as_it_was_and_is_small() -> None:
    memory = learned()
    body = encode(memory, OF, NOW)
    assert decode(body, OF, NOW + 2.5) == (memory, 2.5)
    assert memory.counters.speed.value is not None
    assert len(body) < topology.MOST_MEMORY_BYTES / 2


def changed(**fields: Any) -> Callable[[bytes], bytes]:
    """Of the record."""
    return lambda body: msgspec.json.encode({**msgspec.json.decode(body), **fields})


@pytest.mark.parametrize(
    ("change", "later", "why"),
    [
        (lambda body: body[:-9], 0.0, "cannot be read"),
        (lambda _: b'"nonsense"', 0.0, "cannot be read"),
        (changed(memory=7), 0.0, "cannot be read"),
        (changed(memory=[]), 0.0, "cannot be read"),
        (changed(version=VERSION + 1), 0.0, "another version"),
        (changed(of="SECKILL/orders by Deployment shop/other"), 0.0, "not of"),
        (lambda body: body, LONGEST_SECONDS + 1, "901 s old"),
        (lambda body: body, -LONGEST_SECONDS - 1, "-901 s old"),
    ],
)
def test_what_is_of_no_use_is_said_to_be(change: Callable[[bytes], bytes], later: float, why: str) -> None:
    with pytest.raises(UnusableMemoryError, match=why):
        decode(change(encode(learned(2), OF, NOW)), OF, NOW + later)


def test_one_of_another_controllers_clock_is_used_as_long_as_it_is_near() -> None:
    assert decode(encode(learned(2), OF, NOW), OF, NOW - 60)[1] == -60


@pytest.mark.parametrize("name", [one.name for one in fields(Memory)])
def test_a_field_that_is_missing_or_cannot_be_read_has_its_default_and_the_others_stay(name: str) -> None:
    memory = learned()
    record = msgspec.json.decode(encode(memory, OF, NOW))
    expected = replace(memory, **{name: getattr(Memory(), name)})
    for change in ({"added_later": {"x": 1}}, {name: "nonsense"}):
        record["memory"] = {**record["memory"], **change}
        if name not in change:
            del record["memory"][name]
        with structlog.testing.capture_logs() as lines:
            assert decode(msgspec.json.encode(record), OF, NOW)[0] == expected
        assert [line["field"] for line in lines] == [name] * (name in change)


@dataclass(frozen=True, slots=True)
class Deep:
    at: float
    spans: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Wide:
    deep: Deep | None = None
    always: Deep = Deep(0.0)
    many: tuple[Deep, ...] = ()
    named: Mapping[str, float] = field(default_factory=dict)
    count: int | None = None


def test_dataclasses_in_dataclasses_are_read_field_by_field() -> None:
    whole = Wide(Deep(1.5, (("a", 2.0),)), Deep(3.0), (Deep(4.0),), {"x": 5.0}, 6)
    body = msgspec.json.encode(whole)
    assert lenient(Wide, msgspec.json.decode(body)) == whole
    found = msgspec.json.decode(body)
    found["always"]["spans"] = 7  # costs this field
    found["deep"] = {"spans": []}  # what cannot be made costs the one around it
    found["many"] = [{"at": "x"}]
    assert lenient(Wide, found) == replace(whole, deep=None, many=())


def test_one_that_has_grown_beyond_all_bounds_is_not_written() -> None:
    many = tuple((NOW + number, number) for number in range(5_000))
    with pytest.raises(PeakclipError, match="bytes, more than 65,536"):
        encode(replace(learned(2), needs=many), OF, NOW)
