"""Reading requests: JSON bodies into typed structs, and the idempotency key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec
from multidict import istr

from peakclip_api.problems import Problem

KEY_HEADER: Final = istr("Idempotency-Key")
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
_FIELD: Final = re.compile(r"(.*?)(?: - at `\$\.?(.*)`)?$", re.DOTALL)
_T = TypeVar("_T")


def decode_body(body: bytes, decoder: msgspec.json.Decoder[_T]) -> _T:
    """Raises Problem 400 for what is not JSON, 422 with the field for what is not valid."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as exc:
        matched = _FIELD.match(str(exc))
        message, field = matched.groups() if matched else (str(exc), None)
        raise Problem(
            422,
            "invalid-request",
            "The request is not valid.",
            errors=[{"field": field or "", "message": message}],
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise Problem(400, "malformed-json", f"The body is not JSON: {exc}.") from None


def idempotency_key(headers: Mapping[str, str]) -> str:
    """Raises Problem 400 when the header is missing or not 1 to 255 visible ASCII characters."""
    key = headers.get(KEY_HEADER)
    if key is None or not _KEY.fullmatch(key):
        raise Problem(
            400,
            "idempotency-key-required",
            f"Send {KEY_HEADER}: 1 to 255 visible ASCII characters, new for each order.",
        )
    return key


def optional_key(headers: Mapping[str, str]) -> str | None:
    """Raises Problem 400 when there is a key that is none."""
    key = headers.get(KEY_HEADER)
    if key is not None and not _KEY.fullmatch(key):
        raise Problem(
            400, "idempotency-key-invalid", f"{KEY_HEADER} is 1 to 255 visible ASCII characters, or left out."
        )
    return key
