"""Trace context without OpenTelemetry: what is valid, what is passed on, and that off means off."""

from __future__ import annotations

import doctest
from collections.abc import Iterator

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from peakclip import tracing
from peakclip.settings import Settings
from peakclip.tracing import begin, current_traceparent, incoming, is_sampled, parse, span

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
VALID = f"00-{TRACE}-{PARENT}-01"


# -- the recommendation, 3.2 and 4.3 ---------------------------------------------------------------------------


@pytest.mark.parametrize("flags", ["00", "01", "02", "03"])
def test_a_valid_header_is_passed_on_as_it_came(flags: str) -> None:
    assert parse(f"00-{TRACE}-{PARENT}-{flags}") == f"00-{TRACE}-{PARENT}-{flags}"


def test_flags_that_mean_nothing_yet_are_not_passed_on() -> None:
    assert parse(f"00-{TRACE}-{PARENT}-ff") == f"00-{TRACE}-{PARENT}-03"
    assert parse(f"00-{TRACE}-{PARENT}-fc") == f"00-{TRACE}-{PARENT}-00"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE}-{PARENT}-001",
        f"00-{TRACE}-{PARENT}-0g",
        f"00-{TRACE}-{PARENT}-01-",  # version 00 has nothing behind the flags
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE}-{PARENT}-01.more",
        f"00-{TRACE[1:]}-{PARENT}-01",
        f"00-{TRACE}0-{PARENT}-01",
        f"00-{TRACE}-{PARENT[1:]}-01",
        f"00-{TRACE}-{PARENT}0-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT.upper()}-01",
        f"0A-{TRACE}-{PARENT}-01",
        f"00-{TRACE[:-1]}g-{PARENT}-01",
        f"00_{TRACE}_{PARENT}_01",
        f"ff-{TRACE}-{PARENT}-01",
        f"0-{TRACE}-{PARENT}-01",
        f"000-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01\n",
        f"00-{TRACE}-{PARENT}-01,00-{TRACE}-{PARENT}-01",
        f"01-{TRACE}-{PARENT}-01x",  # a later version has a dash behind the flags, or nothing
        "\u0660" * 2 + f"-{TRACE}-{PARENT}-01",  # digits, but not these
    ],
)
def test_what_is_not_valid_begins_a_new_trace(header: str) -> None:
    assert parse(header) == ""


@pytest.mark.parametrize("rest", ["", "-", "-what-comes-later", "-\n"])
def test_of_a_later_version_only_what_is_known_is_kept(rest: str) -> None:
    assert parse(f"01-{TRACE}-{PARENT}-01{rest}") == VALID
    assert parse(f"fe-{TRACE}-{PARENT}-fe{rest}") == f"00-{TRACE}-{PARENT}-00"


def test_blanks_around_a_header_are_no_part_of_it() -> None:
    assert parse(f" \t{VALID} ") == VALID


def test_the_examples_in_the_docstrings() -> None:
    assert doctest.testmod(tracing).failed == 0


# -- headers ---------------------------------------------------------------------------------------------------


def test_http_headers_are_found_in_any_case_and_two_are_none() -> None:
    once = CIMultiDictProxy(CIMultiDict({"TraceParent": VALID}))
    twice = CIMultiDictProxy(CIMultiDict([("traceparent", VALID), ("Traceparent", VALID)]))
    assert incoming(once) == VALID
    assert incoming(twice) == ""
    assert incoming(CIMultiDict()) == ""


def test_a_messages_headers_are_a_plain_mapping() -> None:
    assert incoming({"traceparent": VALID}) == VALID
    assert incoming({"traceparent": "nonsense"}) == ""
    assert incoming({}) == ""


def test_sampled_is_the_lowest_flag() -> None:
    assert [is_sampled(f"00-{TRACE}-{PARENT}-{flags}") for flags in ("00", "01", "02", "03")] == [
        False, True, False, True,
    ]  # fmt: skip
    assert not is_sampled("")


# -- off -------------------------------------------------------------------------------------------------------


def test_off_the_context_is_passed_on_inside_the_block_and_no_further() -> None:
    assert current_traceparent() == ""
    with span("outer", parent=VALID) as outer:
        assert current_traceparent() == outer.traceparent == VALID
        with span("inner"):
            assert current_traceparent() == VALID
    assert current_traceparent() == ""


def test_off_the_context_is_gone_after_a_failure_too() -> None:
    with pytest.raises(KeyError), span("outer", parent=VALID):
        raise KeyError
    assert current_traceparent() == ""


def test_off_links_are_not_looked_at_and_nothing_is_made() -> None:
    def links() -> Iterator[str]:
        raise AssertionError("looked at")
        yield

    first, second = span("a", links=links()), span("b")
    assert first is second
    with first, second:
        first.set("name", "value")
        first.fail("500")
        assert current_traceparent() == ""


def test_off_a_request_without_a_context_has_no_span() -> None:
    assert begin("accept", {}) is None
    assert begin("accept", {"traceparent": "nonsense"}) is None
    passed = begin("accept", {"traceparent": VALID})
    assert passed is not None
    with passed:
        assert current_traceparent() == VALID
    assert current_traceparent() == ""
    passed.end()


# -- on or off -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("enabled", "environ", "wanted"),
    [
        (None, {}, False),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        (None, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        (False, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, False),
        (True, {}, True),
        (True, {"OTEL_SDK_DISABLED": "true"}, False),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": " TRUE "}, False),
    ],
)
def test_spans_are_made_if_demanded_or_if_a_collector_is_named(
    enabled: bool | None, environ: dict[str, str], wanted: bool
) -> None:
    assert tracing._wanted(enabled, environ) is wanted


def test_switched_off_nothing_is_set_up() -> None:
    tracing.setup("test", Settings(otel_enabled=False), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"})
    assert not tracing.is_on()
    tracing.shutdown()
