"""The CustomResourceDefinition, made from the models: a structural schema as the API server wants it."""

from __future__ import annotations

from typing import Any, Final

from peakclip_operator.resource.duration import written
from peakclip_operator.resource.model import GROUP, KIND, PLURAL, VERSION, WorkerPoolSpec
from peakclip_operator.resource.rules import Part
from peakclip_operator.resource.status_model import WorkerPoolStatus

Schema = dict[str, Any]

_READY: Final = '.status.conditions[?(@.type=="Ready")]'
_COLUMNS: Final = (
    # name, type, path, description, only with -o wide
    (
        "Limit/s",
        "number",
        ".spec.throughput.limitPerSecond",
        "Messages per second, all workers together",
        False,
    ),
    ("Lag", "integer", ".status.lag.total", "Messages that are not finished", False),
    ("Drain/s", "number", ".status.rates.drainPerSecond", "Messages finished per second", False),
    ("Workers", "integer", ".status.replicas.current", "Workers that run", False),
    ("Desired", "integer", ".status.replicas.desired", "Workers asked for", False),
    ("ETA", "string", ".status.eta", "Time until the queue is empty", False),
    ("Ready", "string", f"{_READY}.status", "Whether the operator looks after the pool", False),
    ("Reason", "string", f"{_READY}.reason", "What the pool is doing, or what is wrong", False),
    ("Age", "date", ".metadata.creationTimestamp", "Time since the resource was made", False),
    ("Arrival/s", "number", ".status.rates.arrivalPerSecond", "Messages that arrive per second", True),
    ("Worker/s", "number", ".status.rates.perWorkerPerSecond", "Messages per second of one worker", True),
    ("Ceiling", "integer", ".status.replicas.ceiling", "Most workers that the limit has use for", True),
    ("Mode", "string", ".spec.mode", "Enforce or Advise", True),
    ("Message", "string", f"{_READY}.message", "The reason in a sentence", True),
)


def definition() -> Schema:
    """One object, ready to be written as YAML."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["wp"],
                "categories": ["peakclip"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(*one) for one in _COLUMNS],
                    "schema": {"openAPIV3Schema": _root()},
                }
            ],
        },
    }


def _root() -> Schema:
    return {
        "type": "object",
        "description": "A pool of workers that drains one JetStream consumer at a limited rate: the operator keeps"
        " just enough workers for that rate and says why.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}"},
            "kind": {"type": "string", "description": KIND},
            "metadata": {"type": "object"},
            "spec": structural(WorkerPoolSpec, null=False),
            "status": structural(WorkerPoolStatus, null=True),
        },
    }


def _column(name: str, kind: str, path: str, description: str, wide: bool) -> Schema:
    column: Schema = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return column | {"priority": 1} if wide else column


def structural(model: type[Part], *, null: bool) -> Schema:
    """The model's schema without references and alternatives. `null`: what may be unknown may be null."""
    made = model.model_json_schema(by_alias=True)
    return _plain(made, made.get("$defs", {}), null)


def _plain(schema: Schema, parts: dict[str, Schema], null: bool) -> Schema:
    if "$ref" in schema:
        around = {key: value for key, value in schema.items() if key != "$ref"}
        return _plain(parts[schema["$ref"].rpartition("/")[2]] | around, parts, null)
    if "anyOf" in schema:  # always a type or null
        (only,) = (one for one in schema["anyOf"] if one.get("type") != "null")
        around = {key: value for key, value in schema.items() if key != "anyOf"}
        return _plain(only | around, parts, null) | ({"nullable": True} if null else {})
    plain = {key: value for key, value in schema.items() if key not in ("title", "$defs", "const", "default")}
    if "description" in plain:
        plain["description"] = " ".join(plain["description"].split())
    if "const" in schema:
        plain["enum"] = [schema["const"]]
    if "properties" in schema:
        inside = schema["properties"].items()
        plain["properties"] = {name: _plain(one, parts, null) for name, one in inside}
    for key in ("items", "additionalProperties"):
        if key in schema:
            plain[key] = _plain(schema[key], parts, null)
    if schema.get("default") is not None:
        plain["default"] = _default(schema, plain)
    return plain


def _default(schema: Schema, plain: Schema) -> object:
    """An object's default is made of those of its fields: the API server checks it against the rules as it stands."""
    value = schema["default"]
    if "properties" in plain:
        inside = plain["properties"].items()
        return {name: one["default"] for name, one in inside if "default" in one}
    return written(value) if schema.get("type") == "string" and not isinstance(value, str) else value
