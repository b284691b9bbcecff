from __future__ import annotations

import msgspec
import pytest
from click.testing import CliRunner

from peakclip.cli.pace import View, as_object, as_sentence, command
from peakclip.limiter.pace import Change, Pace, Share, changed

NOW = 1_700_000_000.0
HUNDRED = changed(None, Change(limit_per_second=100), NOW - 60)


def after(change: Change) -> Pace:
    return changed(HUNDRED, change, NOW)


@pytest.mark.parametrize(
    ("before", "pace", "sentence"),
    [
        (HUNDRED, HUNDRED, "orders: 100/s (burst 5)"),
        (HUNDRED, after(Change(limit_per_second=400)), "orders: 100/s -> 400/s (burst 20), in force at "),
        (HUNDRED, after(Change(paused=True)), "orders: 100/s -> paused (limit 100/s), in force at "),
        (None, None, "orders: no rate is set, so nothing starts."),
    ],
)
def test_what_people_read(before: Pace | None, pace: Pace | None, sentence: str) -> None:
    text = as_sentence(View("orders", before, pace, NOW))
    assert text.startswith(sentence)
    assert text.endswith("(in 1.3 s)") == ("in force at" in sentence)


def test_a_look_at_a_coming_change_says_what_holds_until_then() -> None:
    pace = after(Change(limit_per_second=400))
    assert as_sentence(View("orders", pace, pace, NOW + 0.5)).endswith("(in 0.8 s); until then 100/s")


def test_a_lowered_rate_is_named() -> None:
    pace = after(Change(effective_per_second=60))
    text = as_sentence(View("orders", pace, pace, NOW + 10))
    assert text == "orders: 100/s (burst 5), lowered to 60/s by the controller"


def test_a_share_is_named_and_so_is_whose_it_is() -> None:
    pace = after(Change(share=Share("shop.database", 40)))
    text = as_sentence(View("orders", pace, pace, NOW + 10))
    assert text == "orders: 100/s (burst 5), 40/s of it by its share of database"
    answer = msgspec.json.decode(as_object(View("orders", None, pace, NOW)))
    assert (answer["share_per_second"], answer["share_of"]) == (40, "shop.database")


def test_what_machines_read() -> None:
    answer = msgspec.json.decode(as_object(View("orders", HUNDRED, after(Change(paused=True)), NOW)))
    assert answer == {
        "pool": "orders",
        "limit_per_second": 100.0,
        "effective_per_second": 0.0,
        "in_force_per_second": 100.0,
        "burst": 5,
        "paused": True,
        "share_per_second": None,
        "share_of": None,
        "in_force_at": "2023-11-14T22:13:21.300000+00:00",
        "in_force_in_seconds": 1.3,
    }
    unknown = msgspec.json.decode(as_object(View("orders", None, None, NOW)))
    assert set(unknown.values()) == {"orders", None}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["set", "orders", "0"], "A rate is 0.001 to 100,000 per second, not 0."),
        (["set", "orders", "--", "-5"], "not -5"),
        (["set", "orders", "1e9"], "not 1e+09"),
        (["set", "orders", "nan"], "not nan"),
        (["set", "orders", "fast"], "not a valid float"),
        (["set", "orders", "100", "--burst", "1"], "the burst is at least 2"),
        (["set", "orders"], "Missing argument 'R'"),
        (["get", "orders.>"], "not the name of a pool"),
        (["pause"], "Missing argument 'POOL'"),
    ],
)
def test_nonsense_is_refused_with_a_sentence_and_exit_2(arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(command, arguments)  # no server runs: it is not asked
    assert result.exit_code == 2
    assert says in result.stderr
