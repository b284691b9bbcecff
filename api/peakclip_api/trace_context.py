"""W3C Trace Context: the `traceparent` of a request, to be handed on to what it causes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from multidict import istr

_HEADER: Final = istr("traceparent")
_VALID: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def traceparent_of(headers: Mapping[str, str]) -> str:
    """Empty if there is none, or a malformed one."""
    header = headers.get(_HEADER, "")
    return header if _VALID.fullmatch(header) else ""
