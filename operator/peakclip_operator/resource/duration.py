"""Durations as people write them, `90s` or `1h30m`, at this edge only: inside they are seconds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

_PATTERN: Final = "^([0-9]+h)?([0-9]+m)?([0-9]+([.][0-9]+)?s)?$"
_LONGEST_TEXT: Final = 16
_SENTENCE: Final = "must be a duration such as 30s, 2m or 1h30m"
_parts = re.compile(_PATTERN)


def parse(text: str) -> float:
    """Seconds: `1h30m` is 5400.0. Raises ValueError for anything else than hours, minutes and seconds."""
    found = _parts.match(text) if 1 < len(text) <= _LONGEST_TEXT else None
    if found is None:
        raise ValueError(_SENTENCE)
    hours, minutes, seconds = (part[:-1] if part else "0" for part in found.group(1, 2, 3))
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def written(seconds: float) -> str:
    """The shortest text: 5400 is `1h30m`, 0 is `0s`."""
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    parts = [f"{int(hours)}h" if hours else "", f"{int(minutes)}m" if minutes else ""]
    return "".join(parts) + (f"{rest:g}s" if rest or seconds < 60 else "")


@dataclass(frozen=True, slots=True)
class Duration:
    """For `Annotated[float, Duration("1s", "1h")]`: seconds, written as a duration, within these bounds."""

    shortest: str
    longest: str

    @property
    def sentence(self) -> str:
        return f"{_SENTENCE}, between {self.shortest} and {self.longest}"

    def check(self, given: object) -> float:
        seconds = parse(given) if isinstance(given, str) else given
        if not isinstance(seconds, (int, float)) or isinstance(seconds, bool):
            raise ValueError(_SENTENCE)
        if not parse(self.shortest) <= seconds <= parse(self.longest):
            raise ValueError(self.sentence)
        return float(seconds)

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.check,
            serialization=core_schema.plain_serializer_function_ser_schema(
                written, return_schema=core_schema.str_schema()
            ),
        )

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        # No pattern: the API server would show it instead of the sentence.
        low, high = f"duration('{self.shortest}')", f"duration('{self.longest}')"
        rule = f"size(self) > 1 && self.matches('{_PATTERN}') && duration(self) >= {low} && duration(self) <= {high}"
        return {
            "type": "string",
            "maxLength": _LONGEST_TEXT,
            "x-kubernetes-validations": [{"rule": rule, "message": self.sentence}],
        }
