from __future__ import annotations

import pytest

from peakclip import topology
from peakclip.errors import SettingsError
from peakclip_operator.main import chosen_pools
from peakclip_operator.settings import OperatorSettings


def test_the_first_guess_at_a_worker_follows_the_work_it_has_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEAKCLIP_WORK_MS", "40")
    settings = OperatorSettings.load()
    assert 1 / settings.spec("orders").prior_batch_seconds == pytest.approx(22, rel=0.05)
    for other in ("effects", "reaper"):  # their workers call no third party
        assert 1 / settings.spec(other).prior_batch_seconds > 100


def test_each_pool_is_bounded_as_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "MIN_WORKERS": "2",
        "MAX_WORKERS": "9",
        "RATE": "50",
        "EFFECTS_MAX_WORKERS": "7",
        "EFFECTS_RATE": "400",
        "REAPER_MIN_WORKERS": "3",
    }.items():
        monkeypatch.setenv(f"PEAKCLIP_{name}", value)
    settings = OperatorSettings.load()
    found = {pool: settings.of(pool) for pool in topology.POOLS}
    assert {pool: (one.rate, one.min_workers, one.max_workers) for pool, one in found.items()} == {
        "orders": (50.0, 2, 9),
        "effects": (400.0, 1, 7),
        "reaper": (None, 3, 4),
    }
    spec = settings.spec("effects")
    assert (spec.min_replicas, spec.max_replicas) == (1, 7)


def test_with_a_shared_rate_the_orders_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert OperatorSettings.load().shared_rate is None
    values = {"SHARED_RATE": "300", "REAPER_GUARANTEED_RATE": "20", "WEIGHT": "2"}
    for name, value in values.items():
        monkeypatch.setenv(f"PEAKCLIP_{name}", value)
    settings = OperatorSettings.load()
    found = [settings.of(pool) for pool in ("orders", "effects", "reaper")]
    assert settings.shared_rate == 300
    assert [(one.priority, one.weight, one.guaranteed_rate) for one in found] == [
        (10, 2, 0),
        (0, 1, 0),
        (0, 1, 20),
    ]


def test_every_pool_has_settings() -> None:
    settings = OperatorSettings.load()
    for pool in topology.POOLS:
        assert settings.spec(pool).max_replicas == settings.of(pool).max_workers


def test_all_pools_that_somebody_works_for_are_looked_after_unless_some_are_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served = frozenset({"reaper", "orders"})
    assert chosen_pools(OperatorSettings.load(), served) == ["orders", "reaper"]
    monkeypatch.setenv("PEAKCLIP_POOLS", "reaper, orders")
    assert chosen_pools(OperatorSettings.load(), served) == ["orders", "reaper"]
    assert chosen_pools(OperatorSettings.load(pools=("reaper",)), served) == ["reaper"]
    with pytest.raises(SettingsError, match="does not work for effects"):
        chosen_pools(OperatorSettings.load(pools=("orders", "effects")), served)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MIN_WORKERS", "21"),
        ("MAX_WORKERS", "0"),
        ("RATE", "-5"),
        ("RATE", "fast"),
        ("TICK_SECONDS", "0"),
        ("UTILIZATION", "0.84"),
        ("EFFECTS_MIN_WORKERS", "5"),
        ("REAPER_MAX_WORKERS", "many"),
        ("SHARED_RATE", "0"),
        ("PRIORITY", "1001"),
        ("REAPER_WEIGHT", "0"),
        ("EFFECTS_GUARANTEED_RATE", "-1"),
        ("POOLS", "orders,refunds"),
        ("POOLS", ""),
    ],
)
def test_a_wrong_setting_is_named_in_one_sentence_without_any_secret(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PEAKCLIP_NATS_URL", "nats://app:secret@127.0.0.1")
    monkeypatch.setenv(f"PEAKCLIP_{name}", value)
    with pytest.raises(SystemExit) as exit_:
        OperatorSettings.load()
    assert exit_.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    wrong = name.replace("MIN", "MAX")  # the two are compared, and the second one is named
    assert message.startswith(f"PEAKCLIP_{wrong}: ")
    assert "secret" not in message
