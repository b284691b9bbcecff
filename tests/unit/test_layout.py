"""The repository's own rules, which no linter knows."""

from __future__ import annotations

import importlib
import operator
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pydantic
import pytest

from peakclip.cli.migrate import MigrateSettings
from peakclip.settings import Settings
from peakclip_api.settings import ApiSettings
from peakclip_operator.kubernetes.settings import ClusterSettings
from peakclip_operator.settings import OperatorSettings
from peakclip_worker.settings import RelaySettings, WorkerSettings

ROOT = Path(__file__).parents[2]
UNITS = ("api", "lib", "operator", "worker")
MOST_LINES = 300
# How many lines over the rule a file may be, and why.
EXEMPT = {
    "lib/peakclip/jetstream.py": 160,  # one thin port: all pitfalls of the client in one place
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", *patterns],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name]


in_a_clone = pytest.mark.skipif(
    not (ROOT / ".git").exists(), reason="the rules for tracked files need a clone"
)


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_folder_is_not_a_package(unit: str) -> None:
    """`operator/__init__.py`, or any `operator.py` on the path, breaks Python's own module of that name."""
    assert [path.name for path in (ROOT / unit).glob("*.py")] == []


def test_operator_is_the_standard_library() -> None:
    assert sys.modules["operator"] is operator
    assert operator.__file__ is not None
    assert ROOT not in Path(operator.__file__).parents
    assert operator.add(1, 2) == 3


@in_a_clone
def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in tracked("*.py")
        if "tests" not in path.relative_to(ROOT).parts and path.exists()
        if (lines := len(path.read_text().splitlines()))
        > MOST_LINES + EXEMPT.get(str(path.relative_to(ROOT)), 0)
    }
    assert long == {}


@pytest.mark.parametrize("name", sorted(PROJECT["project"]["entry-points"]["peakclip.commands"]))
def test_every_command_can_be_loaded(name: str) -> None:
    (found,) = entry_points(group="peakclip.commands", name=name)
    assert callable(found.load())


def test_the_installed_commands_are_those_of_the_project() -> None:
    declared = PROJECT["project"]["entry-points"]["peakclip.commands"]
    assert {point.name: point.value for point in entry_points(group="peakclip.commands")} == declared


@pytest.mark.parametrize("package", ["peakclip", "peakclip_api", "peakclip_operator", "peakclip_worker"])
def test_a_package_begins_with_its_charter(package: str) -> None:
    assert (importlib.import_module(package).__doc__ or "").strip()


@pytest.mark.parametrize(
    "page",
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_every_link_to_a_file_or_a_heading_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text())
    inside = [(page.parent / file if file else page, heading) for file, heading in links if "://" not in file]
    assert [str(file) for file, _ in inside if not file.exists()] == []
    assert [(file.name, one) for file, one in inside if one and one not in headings(file)] == []


def headings(page: Path) -> set[str]:
    """As they are named behind the `#` of a link."""
    found = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in found}


@pytest.mark.parametrize(
    "settings",
    [ApiSettings, WorkerSettings, RelaySettings, OperatorSettings, ClusterSettings, MigrateSettings],
    ids=lambda one: str(one.__module__),
)
def test_every_setting_is_described(settings: type[Settings]) -> None:
    text = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    missing = [name for name in variables(settings) if f"`{name}`" not in text]
    assert missing == []


def variables(settings: type[pydantic.BaseModel], prefix: str = "PEAKCLIP_") -> Iterator[str]:
    """A group of settings gives its name to its variables."""
    for name, field in settings.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, pydantic.BaseModel):
            yield from variables(group, f"{prefix}{name.upper()}_")
        elif isinstance(field.validation_alias, str):
            yield field.validation_alias
        else:
            yield f"{prefix}{name.upper()}"


def test_the_lock_names_no_machine_and_no_index() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    assert "--index" not in lock
    assert "--find-links" not in lock
    assert " @ " not in lock


def test_the_lock_holds_every_direct_dependency() -> None:
    locks = ("requirements.lock", "requirements/mutation.lock")  # the second has what is needed by hand only
    lines = [line for name in locks for line in (ROOT / name).read_text().splitlines()]
    locked = {line.split("==")[0] for line in lines if "==" in line}
    project = PROJECT["project"]
    wanted = [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
        *(one for group in PROJECT["dependency-groups"].values() for one in group),
    ]
    names = {
        "".join(c if c.isalnum() or c in "-_." else " " for c in one).split()[0].lower() for one in wanted
    }
    assert names - locked == set()
