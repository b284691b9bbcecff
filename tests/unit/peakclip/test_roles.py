"""Roles follow the topology, give nothing by a wildcard that has a name, and what is generated from them is fresh."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from peakclip import topology
from peakclip.grants import permissions_conf
from peakclip.nats_wire import inbox_of
from peakclip.roles import OPERATOR, ROLES, roles

ROOT = Path(__file__).parents[3]
NAMES = ("api", "worker", "relay", "operator", "setup", "admin")


def all_of(subject: str) -> set[str]:
    """Roles that may publish exactly this."""
    return {name for name, role in ROLES.items() if subject in role.publish}


def test_the_roles_are_these() -> None:
    assert tuple(ROLES) == NAMES
    assert all(role.who and role.grants for role in ROLES.values())


def test_what_is_generated_is_fresh() -> None:
    script = [sys.executable, str(ROOT / "scripts" / "nats-roles"), "--check"]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_nobody_gets_a_tree(name: str) -> None:
    """Only its own inbox, and the open end of the new form of acknowledgements."""
    trees = [one for one in (*ROLES[name].publish, *ROLES[name].subscribe) if one.endswith(">")]
    trees.remove(f"_INBOX_{name}.>")
    assert all(one.startswith("$JS.ACK.*.*.") for one in trees)
    assert not any(one.startswith(("*", ">")) for one in (*ROLES[name].publish, *ROLES[name].subscribe))


@pytest.mark.parametrize("name", NAMES)
def test_calls_name_their_stream_and_consumer(name: str) -> None:
    calls = [one for one in ROLES[name].publish if one.startswith("$JS.API.")]
    # To ask after a consumer that may not exist is the operator's; it changes nothing.
    asking = [one for one in calls if name == OPERATOR and one.startswith("$JS.API.CONSUMER.INFO.")]
    assert not [one for one in calls if "*" in one and one not in asking]


def test_nobody_may_delete() -> None:
    assert not [one for role in ROLES.values() for one in role.publish if "DELETE" in one]


def test_every_stream_is_made_and_every_consumer_is_read_by_those_who_should() -> None:
    for stream in topology.STREAMS:
        assert all_of(f"$JS.API.STREAM.UPDATE.{stream}") == {"setup"}
        assert "setup" in all_of(f"$JS.API.STREAM.CREATE.{stream}")
    for stream, consumer in topology.CONSUMERS:
        assert all_of(f"$JS.API.CONSUMER.CREATE.{stream}.{consumer}") == {"setup"}
        worker = (stream, consumer) in ROLES["worker"].consumers
        assert all_of(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}") == {"worker" if worker else "relay"}


def test_every_pool_has_its_subjects() -> None:
    for pool in topology.POOLS:
        assert all_of(f"tk.{pool}.*.*") == {"worker"}
        assert all_of(f"$KV.PACE.{pool}") == {"operator", "admin"}
        assert all_of(topology.retry_subject(pool)) == {"relay", "admin"}
        assert f"peakclip.telemetry.{pool}.*" in ROLES["operator"].subscribe


def test_roles_hear_their_own_answers_only() -> None:
    for name, role in ROLES.items():
        inboxes = [one for one in role.subscribe if one.startswith("_INBOX")]
        assert inboxes == [f"{inbox_of(name)}.>"]


def test_the_operator_can_be_given_more() -> None:
    usual, more = ROLES[OPERATOR], roles(operator_consumers=[("JOBS", "mailer")])[OPERATOR]
    assert set(more.publish) - set(usual.publish) == {
        "$JS.API.STREAM.INFO.JOBS",
        "$JS.API.STREAM.MSG.GET.JOBS",
        "$JS.API.CONSUMER.INFO.JOBS.*",
        "$JS.API.CONSUMER.CREATE.JOBS.mailer",
        "$JS.API.CONSUMER.PAUSE.JOBS.mailer",
        "$KV.PACE.mailer",
        "$KV.MEMORY.mailer",
        "peakclip.status.mailer",
    }
    assert set(more.subscribe) - set(usual.subscribe) == {"peakclip.telemetry.mailer.*"}
    assert '"$KV.PACE.mailer"' in permissions_conf([more])
