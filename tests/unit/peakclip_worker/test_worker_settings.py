"""Settings of channels: wrong ones end the process with one sentence, and no secret is ever shown."""

from __future__ import annotations

import pytest

from peakclip_worker.settings import WorkerSettings

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MAIL = "smtp://ada:s3cret@mail.example:587"


def load(monkeypatch: pytest.MonkeyPatch, **values: str) -> WorkerSettings:
    for name, value in values.items():
        monkeypatch.setenv(f"PEAKCLIP_{name.upper()}", value)
    return WorkerSettings.load()


def test_channels_are_off_unless_they_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch)
    assert (settings.webhook_secret, settings.smtp_url, settings.smtp_from) == (None, None, None)
    assert not settings.webhook_allow_private
    assert load(monkeypatch, webhook_secret="", smtp_url="", smtp_from="") == settings


def test_no_secret_in_words_about_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, webhook_secret=SECRET, smtp_url=MAIL, smtp_from="orders@shop.example")
    for text in (repr(settings), str(settings), settings.model_dump_json()):
        assert "MfKQ9r8" not in text
        assert "s3cret" not in text
    assert settings.smtp_url is not None
    assert settings.smtp_url.get_secret_value() == MAIL


@pytest.mark.parametrize(
    ("name", "value", "hidden"),
    [
        ("webhook_secret", "whsec_bm90IGxvbmcgZW5vdWdo", "bm90"),
        ("smtp_url", "http://ada:s3cret@mail.example", "s3cret"),
        ("smtp_from", "nobody", ""),
    ],
)
def test_a_wrong_value_is_one_sentence_that_shows_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, hidden: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        load(monkeypatch, **{name: value})
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith(f"PEAKCLIP_{name.upper()}: ")
    assert said.count("\n") == 1
    assert (hidden or "got 'nobody'") in said if not hidden else hidden not in said


def test_mail_needs_a_sender(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load(monkeypatch, smtp_url=MAIL)
    assert "PEAKCLIP_SMTP_FROM" in capsys.readouterr().err
