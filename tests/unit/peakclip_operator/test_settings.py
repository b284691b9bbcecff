from __future__ import annotations

import pytest

from peakclip_operator.settings import OperatorSettings


def test_the_first_guess_at_a_worker_follows_the_work_it_has_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEAKCLIP_WORK_MS", "40")
    spec = OperatorSettings.load().spec()
    assert 1 / spec.prior_batch_seconds == pytest.approx(22, rel=0.05)


def test_the_pool_is_bounded_as_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEAKCLIP_MIN_WORKERS", "2")
    monkeypatch.setenv("PEAKCLIP_MAX_WORKERS", "9")
    spec = OperatorSettings.load().spec()
    assert (spec.min_replicas, spec.max_replicas) == (2, 9)


@pytest.mark.parametrize(
    ("name", "value"),
    [("MIN_WORKERS", "21"), ("MAX_WORKERS", "0"), ("RATE", "-5"), ("RATE", "fast"), ("TICK_SECONDS", "0")],
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
    assert "WORKERS" in message if "WORKERS" in name else name in message
    assert "secret" not in message
