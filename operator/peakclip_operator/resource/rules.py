"""A rule across fields: once as CEL for the API server, once as Python for the operator, with one sentence."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import pydantic
from pydantic import GetJsonSchemaHandler
from pydantic.alias_generators import to_camel, to_snake
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema


@dataclass(frozen=True, slots=True)
class Rule:
    cel: str
    """Over `self` with the names of the YAML."""
    message: str
    holds: Callable[[Any], bool]
    """The same over the model."""


class Part(pydantic.BaseModel):
    """A part of the resource. Every field has a docstring: it becomes the field's description."""

    model_config = pydantic.ConfigDict(
        frozen=True,
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
        validate_default=True,
        # A field of a newer version that is still stored must not stop an older operator.
        extra="ignore",
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @pydantic.model_validator(mode="after")
    def _keeps_the_rules(self) -> Self:
        for rule in self.rules:
            if not rule.holds(self):
                raise ValueError(rule.message)
        return self

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        made = handler(schema)
        if cls.rules:
            found = handler.resolve_ref_schema(made)
            found["x-kubernetes-validations"] = [
                {"rule": rule.cel, "message": rule.message} for rule in cls.rules
            ]
        return made


def matches(name: str, pattern: str, sentence: str) -> Rule:
    """Not `pattern`: the API server would show the expression instead of the sentence."""
    attribute = to_snake(name)
    return Rule(
        f"self.{name}.matches('^{pattern}$')",
        sentence,
        lambda it: re.fullmatch(pattern, getattr(it, attribute)) is not None,
    )


def between(name: str, low: float, high: float) -> Rule:
    """Not `minimum`: for a whole number the API server cuts off the fraction of the bound, and 0 would pass 0.1."""
    attribute = to_snake(name)
    return Rule(
        f"self.{name} >= {low} && self.{name} <= {high}",
        f"{name} must be between {low:g} and {high:.6g}",
        lambda it: low <= getattr(it, attribute) <= high,
    )
