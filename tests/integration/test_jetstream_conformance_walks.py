"""Random walks, the same on the model and on a real nats-server, are told the same after every step."""

from __future__ import annotations

import pytest
from simulation.servers.places import on_model, on_server
from simulation.servers.wandering import Walk

from peakclip.local.nats import NatsServer

STEPS = 60


@pytest.mark.integration
@pytest.mark.parametrize("seed", range(12))
def test_a_walk(seed: int, nats_server: NatsServer) -> None:
    model = Walk(seed)
    on_model(lambda place: model.go(place, STEPS))
    server = Walk(seed, model.told)
    on_server(lambda place: server.go(place, STEPS), nats_server)
    for ours, theirs in zip(model.told, server.told, strict=True):
        assert ours == theirs


@pytest.mark.parametrize("seed", range(3))
def test_a_walk_is_the_same_each_time(seed: int) -> None:
    first, again = Walk(seed), Walk(seed)
    on_model(lambda place: first.go(place, STEPS), seed)
    on_model(lambda place: again.go(place, STEPS), seed)
    assert first.told == again.told
