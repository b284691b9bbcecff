"""The root of every error that Peakclip raises on purpose. The docstring of a class is its default message."""

from __future__ import annotations


class PeakclipError(Exception):
    """Peakclip could not do what was asked."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip())


class SettingsError(PeakclipError):
    """A setting is wrong."""


class OutcomeUnknownError(PeakclipError):
    """The server did not answer in time: the message may or may not be stored. Retry with the same identity."""


class UnavailableError(PeakclipError):
    """The server cannot be reached, so nothing was stored."""


class RefusedError(PeakclipError):
    """JetStream refused the message, so nothing was stored."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"{description} ({code})")
        self.code = code  # JetStream's err_code, for example 10077: maximum messages exceeded
        self.description = description


class ForbiddenError(RefusedError):
    """NATS does not allow this to the user of this connection, so nothing was stored and nobody was asked."""

    def __init__(self, what: str, subject: str, user: str = "") -> None:
        super().__init__(0, f"NATS does not allow {user or 'this connection'} to {what} {subject}")
        self.what = what
        self.subject = subject
        self.user = user

    def __str__(self) -> str:
        return self.description
