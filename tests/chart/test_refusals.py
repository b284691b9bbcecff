"""Values that are wrong are refused with a sentence that says what is wrong."""

from __future__ import annotations

import pytest
from chart.rendered import CHART, helm, objects, refusal, with_helm

from peakclip import topology

pytestmark = with_helm

_POOL = "pools[0].name=a,pools[0].stream=S,pools[0].consumer=c,pools[0].throughput.limitPerSecond=1"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("api.replica=3", "additional properties 'replica' not allowed"),
        ("nats.replicas=2", "value must be one of 1, 3"),
        ("api.replicas=many", "got string, want integer"),
        ("pools[0].name=orders", "missing properties 'stream', 'consumer', 'throughput'"),
        (f"{_POOL},pools[0].throughput.limitPerSecond=0", "exclusiveMinimum: got 0, want 0"),
        (f"{_POOL},pools[0].throughput.catchUp=soon", "does not match pattern"),
        (f"{_POOL},pools[1].name=a,pools[1].stream=S,pools[1].consumer=d,pools[1].throughput.limitPerSecond=1",
         "Two pools are called a: names of pools must differ."),
        ("postgresql.parameters.fsync=off",
         "postgresql.parameters.fsync cannot be set: what is acknowledged must be on the disk."),
        ("api.httpRoute.enabled=true", "api.httpRoute.parentRefs is empty: name the Gateway that serves the route."),
        ("api.autoscaling.enabled=true,api.autoscaling.maxReplicas=1",
         "api.autoscaling.maxReplicas must not be below minReplicas."),
        ("api.env.PEAKCLIP_HOST=127.0.0.1", "The variable PEAKCLIP_HOST of api is set twice"),
        ("operator.serviceAccount.create=false", "operator.serviceAccount.name is needed"),
        ("monitoring.podMonitor.enabled=true,monitoring.serviceMonitor.enabled=true", "enable one of them"),
        ("image.tag=a b", "does not match pattern"),
        ("nats.storage.size=18Gi", "nats.maxFileStore (18GB) must be below nats.storage.size (18Gi)"),
        ("nats.storage.size=19G", "nats.maxFileStore (18GB) must be below nats.storage.size (19G)"),
        ("nats.maxFileStore=8GB", "nats.maxFileStore (8GB) must be 9GB or more"),
        ("api.preStopSeconds=18", "must be above preStopSeconds + leaveSeconds + 10 (30)"),
    ],
)  # fmt: skip
def test_refused(values: str, said: str) -> None:
    assert said in refusal("--set", values)


def test_streams_fit_where_the_least_is_given() -> None:
    """A server makes no stream whose bytes it could not keep."""
    reserved = sum(one.get("max_bytes", 0) for one in topology.STREAMS.values() if one["storage"] == "file")
    assert reserved < 9 << 30
    least = ("--set", "nats.maxFileStore=9GB,nats.storage.size=9216Mi")
    assert helm("template", "peakclip", str(CHART), *least).returncode != 0
    assert (
        helm("template", "peakclip", str(CHART), *least[:1], least[1].replace("9216", "9217")).returncode == 0
    )


def test_a_durable_setting_cannot_be_undone_by_a_second_one() -> None:
    """The last `-c` wins in PostgreSQL: none of the three may come from values, in any spelling."""
    assert "does not match pattern" in refusal("--set", "postgresql.parameters.Fsync=off")


def test_passwords_differ_and_agree() -> None:
    """Six roles, six passwords; and the address of each holds the password of its own."""
    (secret,) = (
        one
        for one in objects(CHART / "ci" / "default-values.yaml")
        if one["kind"] == "Secret" and one["metadata"]["name"].endswith("-nats")
    )
    data = secret["stringData"]
    roles = [key.removesuffix("-url") for key in data if key.endswith("-url")]
    assert sorted(roles) == ["admin", "api", "operator", "relay", "setup", "worker"]
    assert len({data[f"{role}-password"] for role in roles}) == len(roles)
    for role in roles:
        assert data[f"{role}-url"] == f"nats://{role}:{data[f'{role}-password']}@peakclip-nats:4222"


def test_the_notes_name_the_next_steps() -> None:
    done = helm("install", "shop", str(CHART), "--dry-run=client", "--set", "api.replicas=1")
    assert done.returncode == 0, done.stderr
    for step in (
        "exec deploy/shop-peakclip-api -- peakclip keys create --role admin",
        "port-forward svc/shop-peakclip-api 8080:http",
        "get workerpools --watch",
        "The API has fewer than two replicas",
    ):
        assert step in done.stdout
