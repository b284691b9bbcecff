"""What NetworkPolicies come to when values leave something out: an empty list of peers lets in everybody."""

from __future__ import annotations

from typing import Any

from chart.rendered import CHART, objects, with_helm

pytestmark = with_helm

DEFAULT = CHART / "ci" / "default-values.yaml"


def _policies(*options: str) -> dict[str, Any]:
    found = (one for one in objects(DEFAULT, *options) if one["kind"] == "NetworkPolicy")
    return {one["metadata"]["name"].removeprefix("peakclip-"): one["spec"] for one in found}


def test_metrics_for_nobody_are_metrics_for_nobody() -> None:
    for name, spec in _policies("--set-json", "networkPolicy.metricsFrom=[]").items():
        for rule in spec.get("ingress", []):
            assert "management" not in [port["port"] for port in rule["ports"]], name
            assert rule.get("from", "absent"), f"{name}: an empty `from` is everybody"


def test_the_api_server_may_be_a_node_of_the_cluster() -> None:
    """Cilium takes no node for a part of 0.0.0.0/0; without `to` it is."""
    for name in ("operator", "test"):
        rules = [
            rule for rule in _policies()[name]["egress"] if {"protocol": "TCP", "port": 6443} in rule["ports"]
        ]
        assert [sorted(rule) for rule in rules] == [["ports"]], name
    (narrow,) = (
        rule
        for rule in _policies("--set", "networkPolicy.apiServer.cidrs={192.0.2.1/32}")["operator"]["egress"]
        if {"protocol": "TCP", "port": 6443} in rule["ports"]
    )
    assert narrow["to"] == [{"ipBlock": {"cidr": "192.0.2.1/32"}}]


def test_names_are_resolved_at_the_ports_of_the_cluster() -> None:
    (rule,) = _policies("--set", "networkPolicy.dnsPorts={53,5353}")["default"]["egress"]
    ports = {(port["protocol"], port["port"]) for port in rule["ports"]}
    assert ports == {(protocol, port) for protocol in ("TCP", "UDP") for port in (53, 5353)}
