"""docs/reference/workerpool.md says of the resource what the code does, and troubleshooting has every reason."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from peakclip.messages import DATABASE_BOUNDS
from peakclip_operator.kubernetes import pods
from peakclip_operator.resource import model, status_model, wish
from peakclip_operator.resource.definition import definition
from peakclip_operator.resource.rules import Part

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/workerpool.md").read_text()
HELP = (ROOT / "docs/howto/troubleshooting.md").read_text()
RULES = ROOT / "charts/peakclip/templates/operator/_rules.tpl"
RESOURCE = ROOT / "operator/peakclip_operator/resource"
PLAN = ROOT / "operator/peakclip_operator/plan"
VERSION: dict[str, Any] = definition()["spec"]["versions"][0]
PARTS: dict[str, Any] = VERSION["schema"]["openAPIV3Schema"]["properties"]

# Words that look like reasons and are none: names of conditions and kinds, values of fields, states.
_OTHER_WORDS = {
    *("True", "False", "Unknown", "Ready", "Scaling", "LagAvailable", "Shared", "Normal", "Warning"),
    *("Advise", "Hold", "Floor", "Fixed", "Nothing"),
}


def section(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    text = re.split(rf"^#+ {re.escape(heading)}$", PAGE, flags=re.MULTILINE)[1]
    text = re.split(r"^#+ ", text, flags=re.MULTILINE)[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def words(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


def leaves(path: str, schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Fields that hold a value, and whether each must be given."""
    for name, one in schema["properties"].items():
        if "properties" in one:
            yield from leaves(f"{path}.{name}", one)
        else:
            yield f"{path}.{name}", one, name in schema.get("required", ())


def test_the_classes_by_which_max_p95_is_exact_are_those_of_the_workers() -> None:
    told = [f"{bound:g}" for bound in DATABASE_BOUNDS]
    classes = f"{', '.join(told[:-1])} and {told[-1]} s"
    schema = {path: one for path, one, _ in leaves("spec", PARTS["spec"])}
    assert classes in PAGE
    assert classes in schema["spec.throughput.databaseHealth.maxP95"]["description"]


def test_every_field_of_the_spec_is_described_with_its_default() -> None:
    described = {words(cells[0]).pop(): cells[1] for cells in section("Spec")}
    assert described == {
        path: "–"
        if "default" not in one
        else f"`{one['default']}`".replace("False", "false").replace("True", "true")
        for path, one, _ in leaves("spec", PARTS["spec"])
    }


def test_every_field_of_the_spec_is_described_with_its_bounds() -> None:
    described = {words(cells[0]).pop(): cells[2] for cells in section("Spec")}
    for path, one, must in leaves("spec", PARTS["spec"]):
        bounds = described[path]
        assert bounds.startswith("must") == must, path
        numbers = [one[key] for key in ("minimum", "maximum", "maxLength") if key in one]
        rules = [rule["message"] for rule in one.get("x-kubernetes-validations", ())]
        if rules:  # a duration; its length in letters is nobody's business
            numbers = re.findall(r"between (\w+) and (\w+)", rules[0])[0]
        assert [n for n in numbers if not re.search(rf"\b{n}\b", bounds)] == [], path
        assert words(bounds) >= set(one.get("enum", ())), path


def test_every_rule_is_told_in_the_words_of_the_api_server() -> None:
    told = set(re.findall(r"^- (.*)$", PAGE, re.MULTILINE))
    parts = [one for one in vars(model).values() if isinstance(one, type) and issubclass(one, Part)]
    rules = {rule.message for part in parts for rule in part.rules}
    assert rules
    assert told >= rules


def test_every_field_of_the_status_is_described() -> None:
    described = [words(cells[0]).pop() for cells in section("Status")]
    assert described == [path for path, _, _ in leaves("status", PARTS["status"])]


def test_every_column_is_described_and_where_it_shows() -> None:
    described = {words(cells[0]).pop(): cells[1].startswith("with `-o wide`") for cells in section("Columns")}
    assert described == {
        one["name"]: one.get("priority", 0) > 0 for one in VERSION["additionalPrinterColumns"]
    }


def test_every_annotation_is_described() -> None:
    described = {words(cells[0]).pop() for cells in section("Annotations")}
    assert described == {wish.PAUSED, wish.PAUSED_REPLICAS, wish.PAUSED_SCALE_DOWN}
    assert f"`{pods.DELETION_COST}: " in PAGE


def written(*files: Path) -> set[str]:
    """Every word in capitals and small letters that stands as a text in these files."""
    found = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= {node.value} & set(re.findall(r"^(?:[A-Z][a-z]+)+$", node.value))
    return found - _OTHER_WORDS


def test_every_reason_of_a_condition_is_described() -> None:
    described = set().union(*(words(cells[2]) for cells in section("Conditions")))
    # The reason of a decision becomes that of Ready.
    code = (
        RESOURCE / "conditions.py",
        RESOURCE / "sharing.py",
        RESOURCE / "trouble.py",
        PLAN / "decide.py",
        PLAN / "steps.py",
    )
    assert described == written(*code)
    kinds = {words(cells[0]).pop() for cells in section("Conditions")}
    assert kinds == {"Ready", "Scaling", "LagAvailable", "Paused", "Shared"}


def test_every_event_is_described() -> None:
    described = set().union(*(words(cells[0]) for cells in section("Events")))
    ready_is_false = set().union(*(words(cells[2]) for cells in section("Conditions") if cells[1] == "False"))
    assert described >= written(RESOURCE / "events.py")
    assert described - written(RESOURCE / "events.py") <= ready_is_false


def test_every_constraint_is_described() -> None:
    described = {words(cells[0]).pop() for cells in section("What binds")}
    named = status_model.DecisionStatus.model_fields["binding_constraint"].description or ""
    told = set(re.findall(r"[a-z-]+", named.partition(":")[2])) - {"or"}
    assert described == told
    code = "".join(one.read_text() for one in PLAN.glob("*.py"))
    assert [one for one in described if f'"{one}"' not in code] == []


def test_every_right_of_the_operator_is_described() -> None:
    described = [
        [one.strip("`") for one in cells[:2]] + sorted(words(cells[2]))
        for cells in section("Rights of the operator")
    ]
    pattern = r"apiGroups: \[(.*)\]\n +resources: \[(.*)\]\n(?: +resourceNames: .*\n)? +verbs: \[(.*)\]"
    granted = re.findall(pattern, RULES.read_text())
    assert described == [
        [group if group != '""' else "core", resource, *sorted(verbs.split(", "))]
        for group, resource, verbs in granted
    ]


REASONS = sorted(set().union(*(words(cells[2]) for cells in section("Conditions"))))


@pytest.mark.parametrize("reason", REASONS)
def test_troubleshooting_has_every_reason(reason: str) -> None:
    assert f"`{reason}`" in HELP
