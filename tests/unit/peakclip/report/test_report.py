"""The report's keys, its figures, its words and its verdict, from one small run."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from peakclip.audit import AuditResult, CheckResult, Harm, Violation
from peakclip.load.outcome import Answer, LoadOptions, LoadResult, summarise
from peakclip.messages import PoolStatus
from peakclip.report.figure import figure_of
from peakclip.report.report import Drain, Durability, client_report, full_report, worker_range
from peakclip.report.words import audit_words, burst_words, drain_words, failures, worker_words

CONTRACT = {
    "version", "accepted", "refused", "errors", "durable", "accept_seconds", "accept_p50_ms", "accept_p99_ms",
    "drained", "drain_seconds", "rate", "workers", "lost", "duplicated", "oversold", "undersold", "plot",
}  # fmt: skip
START = 1000.0
SOUND = AuditResult(checks=(CheckResult(1, "orders", "ok"),), at_rest=True)
ON_DISK = Durability(True, "on", "on")
DRAIN = Drain(
    accepted=[START + 0.1 + index / 1000 for index in range(200)],
    started=[START + 0.5 + index / 100 for index in range(200)],
    committed=[START + 0.55 + index / 100 for index in range(200)],
    statuses={"pending_payment": 200},
)


def load(accepted: int = 200, sold_out: int = 0, missing: int = 0) -> LoadResult:
    orders = accepted + sold_out + missing
    answers: list[Answer | None] = [
        Answer(202, b'{"order_id":"%d"}' % n, n / 1000, 0.01) for n in range(accepted)
    ]
    answers += [Answer(409, b'{"type":"https://x/sold-out"}', 0.5, 0.01)] * sold_out
    answers += [None] * missing
    options = LoadOptions(url="http://h", sale="s", key="k", orders=orders)
    return summarise(options, answers, started_at=START, causes=Counter(), retries=0, cpu_seconds=0.1)


def status(at: float, workers: int) -> PoolStatus:
    return PoolStatus(
        pool="orders", at=at, limit_per_second=100.0, effective_per_second=100.0, paused=False,
        lag_ready=None, lag_in_flight=None, oldest_seconds=None, arrival_per_second=None,
        drain_per_second=None,
        per_worker_per_second=None, workers_current=workers, workers_desired=workers, workers_ceiling=None,
        eta_seconds=None, reason="", binding_constraint="", processed_total=0, failed_total=0,
        average_processing_seconds=None, starts_max_sliding_second=None,
    )  # fmt: skip


STATUSES = [status(START - 9, 9), status(START - 1, 1), status(START + 1, 6), status(START + 30, 0)]


def report(client: LoadResult | None = None, **changed: Any) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "audit": SOUND, "durability": ON_DISK, "target": 100.0, "allowed": 105.0, "plot": "p.svg", **changed
    }  # fmt: skip
    return full_report(client_report(client or load()), parts.pop("drain", DRAIN), STATUSES, **parts)


def test_the_contract_s_keys_are_all_there_and_can_be_written() -> None:
    for figures in (client_report(load()), report()):
        assert set(figures) >= CONTRACT
        assert set(figures["rate"]) >= {"target", "mean", "error_percent", "max_sliding_second"}
        assert set(figures["workers"]) == {"min", "max"}
        json.dumps(figures)


def test_figures() -> None:
    figures = report()
    assert figures["durable"] is True
    assert figures["drained"] == 200
    assert figures["drain_seconds"] == pytest.approx(1.99)
    assert figures["rate"]["mean"] == pytest.approx(100.0)
    assert figures["rate"]["error_percent"] == pytest.approx(0.0, abs=1e-3)
    assert figures["rate"]["max_sliding_second"] in (100, 101)  # floating point decides about the edge
    assert failures(figures, stock=200) == []


def test_a_client_alone_does_not_know_the_rest() -> None:
    figures = client_report(load())
    assert figures["durable"] is None
    assert figures["lost"] is None
    assert figures["rate"]["mean"] is None


def test_workers_count_from_the_last_status_before_the_first_start_to_the_last_commit() -> None:
    assert worker_range(STATUSES, DRAIN) == {"min": 1, "max": 6}
    assert worker_range([], DRAIN) == {"min": None, "max": None}


@pytest.mark.parametrize(
    ("found", "durable"),
    [
        (Durability(True, "on", "on"), True),
        (Durability(True, "off", "on"), False),
        (Durability(True, "local", "on"), True),
        (Durability(True, "on", "off"), False),
        (Durability(False, "on", "on"), False),
        (Durability(None, "on", "on"), None),
        (Durability(True, None, None), None),
        (Durability(None, "off", "on"), False),
    ],
)
def test_durable_is_true_only_if_every_server_says_so(found: Durability, durable: bool | None) -> None:
    assert found.durable is durable


def test_the_verdict_names_what_went_wrong() -> None:
    lost = Violation(1, "1 accepted order is missing", [{"order_id": "x"}], Harm.LOST, 1)
    broken = AuditResult((CheckResult(1, "orders", violations=(lost,)),), at_rest=True)
    crowded = replace(DRAIN, started=[START] * 200)
    for figures, word in (
        (report(load(190, missing=10)), "in full"),
        (report(durability=Durability(None, None, None)), "on disk"),
        (report(audit=broken), "violations"),
        (report(drain=Drain()), "reached the database"),
        (report(drain=crowded), "R + burst"),
    ):
        assert any(word in sentence for sentence in failures(figures, stock=200)), word
    assert report(audit=broken)["lost"] == 1


def test_sold_out_is_a_success_when_the_stock_was_sold() -> None:
    assert failures(report(load(200, sold_out=300)), stock=200) == []
    assert failures(report(load(200, sold_out=300)), stock=201) != []


def test_two_orders_named_alike_count_as_a_duplicate() -> None:
    alike = [Answer(202, b'{"order_id":"same"}', 0.1, 0.1)] * 2
    client = summarise(
        LoadOptions(url="http://h", sale="s", key="k", orders=2), alike, started_at=START, causes=Counter(),
        retries=0, cpu_seconds=0.0,
    )  # fmt: skip
    assert report(client)["duplicated"] == 1


def test_words() -> None:
    figures = report(load(200, sold_out=300))
    assert burst_words(figures).startswith(
        "200 of 500 orders accepted durably in 0.50 s (p50 10 ms, p99 10 ms)"
    )
    assert "300 sold-out" in burst_words(figures)
    assert "100.0/s" in drain_words(figures)
    assert worker_words(STATUSES) == "Workers 9 → 9 → 0."
    assert audit_words(figures) == ["Lost 0, duplicated 0, oversold 0, undersold 0."]
    assert "NOT durably" in burst_words(report(durability=Durability(False, "on", "on")))


def test_the_figure_adds_up() -> None:
    figures = report(load(200, sold_out=300))
    figure = figure_of(figures, DRAIN, STATUSES)
    assert sum(figure.accepted) * figure.bin_seconds == pytest.approx(200)
    assert sum(figure.refused) * figure.bin_seconds == pytest.approx(300)
    assert sum(figure.drained) * figure.bin_seconds == pytest.approx(200)
    assert max(value for _, value in figure.backlog) > 140
    assert figure.backlog[-1][1] == 0
    assert figure.limit == [(-9.0, 100.0)]
    assert figure.end == 30.0
