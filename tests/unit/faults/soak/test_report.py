"""The report: broken or not, in words and for machines."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from faults.history.finding import Damage, Finding
from faults.nemesis.plan import Fault, Kind, pairs
from faults.soak.options import Options, parse
from faults.soak.report import Broken, Report, of_audit, of_ends, of_trial, of_verdicts
from faults.soak.tally import Faults, Step
from faults.soak.verdict import Verdict

AUDIT = {
    "at_rest": True, "why_not": [], "lost": 0, "duplicated": 0, "oversold": 0, "undersold": 0, "violations": [],
    "strangers": [], "events_of_nobody": 0, "checks": [], "orders": {"paid": 3}, "dead_letters": {},
}  # fmt: skip


def report() -> Report:
    faults = Faults()
    fault = Fault(3.0, Kind.KILL, "nats")
    faults.begins(fault)
    faults.ends(fault, 10.0, missed=False)
    faults.took(Step.ACCEPTED, 10.5, 11.0)
    faults.took(Step.THROUGH, 12.0, 12.5)
    return Report(
        Options(minutes=2, seed=7), {"python": "3"}, 1.0, load_seconds=120.0, rest_seconds=30.0, check_seconds=9.0,
        clients={"accepted": 60_000, "retries": 12, "unknown": 3}, orders={"expired": 1_000, "paid": 59_000},
        faults=faults.told(), audit=AUDIT,
    )  # fmt: skip


def test_nothing_broken() -> None:
    whole = report()
    assert whole.exit_code == 0
    words = whole.words()
    assert "60,000 orders accepted in 2:00 (500/s), 1 faults; at rest after 0:30, checked in 0:09." in words
    assert "In the database: 60,000 (1,000 expired, 59,000 paid)." in words
    assert "  kill           1   accepted 1.0 s, through 2.5 s (3.00 kill nats)" in words
    assert "Findings: 0. Whatever was promised was kept." in words
    assert words.endswith("Again with the same faults: make soak MINUTES=2 SEED=7 RATE=600 FAULTS=30")


def test_something_broken_is_named_with_its_evidence() -> None:
    whole = report()
    whole.broken = [Broken("lost", [f"order-{n}"], "neither a row nor a dead letter") for n in range(30)]
    whole.number = 400
    assert whole.exit_code == 1
    assert "Findings: 400." in whole.words()
    assert "  lost: order-9: neither a row nor a dead letter" in whole.words()
    assert "order-10" not in whole.words()
    told = json.loads(json.dumps(whole.to_json()))
    assert told["findings"] == 400
    assert len(told["broken"]) == 30
    assert told["options"]["seed"] == 7


def test_a_finding_that_is_only_counted_breaks_it_too() -> None:
    assert replace(report(), number=1).exit_code == 1


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"at_rest": False, "why_not": ["outbox: 3 rows"]}, "no rest"),
        ({"violations": [{"invariant": 2, "message": "units", "number": 1, "rows": ["s"]}]}, "invariant 2"),
        ({"strangers": [{"order_id": "o", "customer_id": "ann", "status": "paid"}]}, "extra"),
        ({"events_of_nobody": 2}, "extra"),
        (
            {"checks": [{"name": "rate", "outcome": "not checked", "detail": "no rate is given"}]},
            "not judged",
        ),
        ({"orders": {"paid": 3, "rejected": 1}}, "rejected"),
        ({"dead_letters": {"orders: failed": 2}}, "dead letter"),
    ],
)
def test_what_the_auditor_says(change: dict[str, object], what: str) -> None:
    assert [one.what for one in of_audit(AUDIT | change)] == [what]
    assert of_audit(AUDIT) == []


def test_who_was_not_asked_to_end() -> None:
    ends = {("api-1", "killed by SIGKILL"): 9, ("relay", "exit code 1"): 2, ("postgres", "exit code 2"): 1}
    assert of_ends(ends, {0, -9, 143}) == [Broken("ended by itself", ["relay"], "exit code 1, 2 times")]
    assert of_ends({}, {3}) == [Broken("ended by itself", ["worker"], "exit code 3")]


def test_what_was_found_of_chapters() -> None:
    found = Finding(Damage.LOST, ("o",), "no row")
    verdict = Verdict("s0001", [found], 1, {}, 2, 3, 0.1, complete=True)
    assert of_verdicts([verdict]) == [Broken("lost", ("o",), "no row")]
    assert verdict.told()["findings"] == 1
    blind = Verdict("s0002", [], 0, {}, 2, 3, 0.1, complete=False)
    assert [(one.what, one.subjects) for one in of_verdicts([blind])] == [("not judged", ["s0002"])]


def test_a_soak_that_tried_nothing_has_shown_nothing() -> None:
    assert of_trial(1, 1, {"503": 7}) == []
    assert [one.subjects for one in of_trial(0, 1, {})] == [["faults"]]
    assert [one.subjects for one in of_trial(1, 0, {})] == [["webhooks"]]
    assert [one.subjects for one in of_trial(1, 1, {"internal-error": 2})] == [["500"]]


def test_options() -> None:
    given = parse(["--minutes", "40", "--seed", "9", "--rate", "700", "--faults", "26", "--report", "x.json"])
    assert (given.minutes, given.seed, given.rate, given.faults) == (40.0, 9, 700.0, 26.0)
    assert given.report == Path("x.json")
    assert given.again == "make soak MINUTES=40 SEED=9 RATE=700 FAULTS=26"
    assert given.told()["drain_rate"] == 6_400.0
    assert parse(["--seed", "9"]).report == Path(".soak/9.json")
    assert 0 <= parse([]).seed < 1_000_000
    assert parse([]).pairs == pairs()
    chosen = parse(["--among", "backends", "kill:nats"]).pairs
    assert set(chosen) == {(Kind.BACKENDS, "postgres"), (Kind.KILL, "nats")}


@pytest.mark.parametrize(
    "argv",
    [
        ["--minutes", "0"],
        ["--rate", "-1"],
        ["--faults", "0"],
        ["--plant", "nothing"],
        ["--among", "kill:nobody"],
    ],
)
def test_options_that_cannot_be(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(argv)
    assert ended.value.code == 2
